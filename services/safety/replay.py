"""Recorded traffic under a policy: what would have become of it. Rules and checks only; nobody is asked. Pure.

A record is one JSON object per line: `direction`, `model`, `body`, and if known `id`, `policy`, `verdict` and `rules`.
A streamed answer has `stream` in place of `body`: its server-sent events as text, or a list of the pieces that came.
Audit records hold no text, so they are not what is replayed; a recording comes from where text may be kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from services.openai.texts import Json, Path, Text, Undecodable, decode, walk
from services.safety.answer import StreamedAnswer
from services.safety.judge import UNDECODABLE, Tally, judge
from services.safety.policy import Policies, Side
from services.safety.verdict import Action, Direction


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One line."""

    direction: Direction
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """The request's or the answer's JSON document."""
    stream: str | tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """The events of a streamed answer, whole or in the pieces in which they came."""
    model: str = ""
    policy: str | None = None
    """As a route chose it; None leaves it to the model."""
    id: str = ""
    verdict: Action | None = None
    """What became of it."""
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.body is msgspec.UNSET) is (self.stream is msgspec.UNSET):
            raise ValueError("expected either `body` or `stream`")
        if self.stream is not msgspec.UNSET and self.direction is Direction.PROMPT:
            raise ValueError("`stream` is for answers")

    @property
    def document(self) -> bytes:
        """The whole document; empty for a stream."""
        return b"" if isinstance(self.body, msgspec.UnsetType) else bytes(self.body)

    @property
    def pieces(self) -> tuple[bytes, ...] | None:
        """The pieces of a streamed answer; None for a whole document."""
        if isinstance(self.stream, msgspec.UnsetType):
            return None
        whole = (self.stream,) if isinstance(self.stream, str) else self.stream
        return tuple(piece.encode("utf-8", "replace") for piece in whole)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy makes of a record."""

    verdict: str
    rules: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.verdict} ({', '.join(self.rules)})" if self.rules else self.verdict


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that two judgements see differently."""

    line: int
    recorded: Recorded
    before: Outcome
    after: Outcome

    def __str__(self) -> str:
        name = f" {self.recorded.id}" if self.recorded.id else ""
        model = self.recorded.model or "(no model)"
        return f"{self.line}{name} {self.recorded.direction} {model}: {self.before} -> {self.after}"


def read(lines: Iterable[bytes]) -> Iterator[tuple[int, Recorded]]:
    """Yield each record with its line number; raise `ValueError` that names the line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, msgspec.json.decode(line, type=Recorded)
        except msgspec.DecodeError as error:
            raise ValueError(f"line {number}: {error}") from error


def outcome(recorded: Recorded, policies: Policies) -> Outcome:
    """Judge one record; raise `LookupError` for a policy that is not there."""
    side = policies.choose(recorded.model, recorded.policy).side(recorded.direction)
    tally = Tally()
    if recorded.pieces is not None:
        _follow(recorded.pieces, replace(side, providers=()), tally)
    else:
        role = "" if recorded.direction is Direction.PROMPT else "assistant"
        try:
            judge(walk(decode(recorded.document), role), side, tally)
        except Undecodable:
            return Outcome(UNDECODABLE)
    if tally.block == UNDECODABLE:
        return Outcome(UNDECODABLE)
    verdict = tally.verdict()
    return Outcome(verdict.action.value, tuple(sorted(verdict.rules)))


def _follow(pieces: Iterable[bytes], side: Side, tally: Tally) -> None:
    """Judge a stream as it would have been while it flowed."""
    answer = StreamedAnswer(side, tally, _nobody)
    for piece in pieces:
        _at_once(answer.feed(piece, end=False))
        if answer.ended:
            return
    _at_once(answer.feed(b"", end=True))


async def _nobody(_texts: Sequence[Text], _final: bool) -> Mapping[Path, Json]:
    return {}


def _at_once(answering: Coroutine[object, None, bytes]) -> None:
    """Run a coroutine that has nobody to wait for."""
    try:
        answering.send(None)
    except StopIteration:
        return
    raise RuntimeError("a judgement without providers waits for something")


def differences(
    records: Iterable[tuple[int, Recorded]], policies: Policies, against: Policies | None
) -> Iterator[Difference | None]:
    """Yield for each record how `policies` see it differently, None where they do not.

    Differently from the policies `against`, or without these from the recorded verdict; a record without one is
    compared with `allow`.
    """
    for line, recorded in records:
        after = outcome(recorded, policies)
        before = _recorded(recorded) if against is None else outcome(recorded, against)
        yield Difference(line, recorded, before, after) if before != after else None


def _recorded(recorded: Recorded) -> Outcome:
    return Outcome((recorded.verdict or Action.ALLOW).value, tuple(sorted(recorded.rules)))


def summary(found: Iterable[Difference | None]) -> str:
    """Return counts, one line."""
    counts: Counter[str] = Counter()
    total = 0
    for difference in found:
        total += 1
        if difference is not None:
            counts[f"{difference.before.verdict} -> {difference.after.verdict}"] += 1
    parts = ", ".join(f"{count} {change}" for change, count in counts.most_common())
    return f"{total} records, {counts.total()} differ" + (f": {parts}" if parts else "")
