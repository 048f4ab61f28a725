"""Cut texts into what a judge accepts, and bring its answer back to the texts. Pure.

What a person or a model says is judged by itself, so that its verdict can be remembered. Names, schemas, links and
the like are many and short: those of one role are judged together, a line each.
"""

from __future__ import annotations

import os.path
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.openai.texts import Kind, Text
from services.safety.providers.base import ProviderVerdict
from services.safety.verdict import Action, Finding, State

ALONE = frozenset({Kind.CONTENT, Kind.REASONING, Kind.REFUSAL, Kind.ARGUMENTS, Kind.RESULT})
_MASKED = "masked"

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """Where a stretch of a piece comes from."""

    index: int
    """Of the text."""
    at: int
    """Where it begins in the text."""
    start: int
    """Where it begins in the piece."""
    length: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What a judge sees at once."""

    value: str
    role: str
    parts: tuple[Part, ...]

    def back(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield (text, start, end) for each text that the span `start` to `end` of this piece touches."""
        for part in self.parts:
            low, high = max(start, part.start), min(end, part.start + part.length)
            if low < high:
                yield part.index, low - part.start + part.at, high - part.start + part.at


def cut(texts: Sequence[Text], limit: int, overlap: int, roles: Collection[str] = ()) -> list[Piece]:
    """Return pieces of at most `limit` characters; those of one long text share `overlap` with their neighbours.

    Texts of other roles than `roles` are left out; empty takes all.
    """
    whole, short = list[Piece](), list[Piece]()
    for index, text in enumerate(texts):
        if roles and text.role not in roles:
            continue
        pieces = list(_pieces(index, text, limit, overlap))
        if text.kind in ALONE or len(pieces) > 1:
            whole += pieces
        else:
            short += pieces
    return whole + _packed(short, limit)


def _pieces(index: int, text: Text, limit: int, overlap: int) -> Iterator[Piece]:
    step = max(1, limit - overlap)
    last = max(1, len(text.value) - overlap)
    for at in range(0, last, step):
        value = text.value[at : at + limit]
        yield Piece(value, text.role, (Part(index, at, 0, len(value)),))


def _packed(pieces: Sequence[Piece], limit: int) -> list[Piece]:
    """Join pieces of one role, a line each, up to `limit` characters."""
    open_: dict[str, Piece] = {}
    done: list[Piece] = []
    for piece in pieces:
        before = open_.get(piece.role)
        if before is not None and len(before.value) + 1 + len(piece.value) <= limit:
            open_[piece.role] = _joined(before, piece)
            continue
        if before is not None:
            done.append(before)
        open_[piece.role] = piece
    return done + list(open_.values())


def _joined(before: Piece, piece: Piece) -> Piece:
    (part,) = piece.parts
    moved = Part(part.index, part.at, len(before.value) + 1, part.length)
    return Piece(f"{before.value}\n{piece.value}", before.role, (*before.parts, moved))


def back(verdicts: Sequence[tuple[Piece, ProviderVerdict]], texts: Sequence[Text]) -> ProviderVerdict:
    """Put the verdicts on pieces together: the strictest action, the worst state, findings where they are in `texts`.

    Each verdict speaks of its piece as index 0. A mask of a piece that is a whole text stays as the judge wrote it;
    any other becomes the span that it changed.
    """
    findings: dict[tuple[int, Finding], None] = {}
    replacements: dict[int, str] = {}
    holdback: dict[int, int] = {}
    for piece, verdict in verdicts:
        findings |= dict.fromkeys(_located(piece, verdict))
        for text in verdict.replacements.values():
            _replace(piece, text, texts, replacements, findings)
        if verdict.holdback:
            holdback[piece.parts[-1].index] = max(verdict.holdback.values())
    only = [verdict for _, verdict in verdicts]
    return ProviderVerdict(
        max((verdict.action for verdict in only), key=list(Action).index, default=Action.ALLOW),
        worst_state([verdict.state for verdict in only]),
        tuple(findings),
        replacements,
        next((verdict.reason for verdict in only if verdict.reason), ""),
        holdback,
    )


def _located(piece: Piece, verdict: ProviderVerdict) -> Iterator[tuple[int, Finding]]:
    """Yield the findings in their texts. A block without one is a finding over the whole piece: policies may name it."""
    found_here = [found for _, found in verdict.findings]
    if verdict.action is Action.BLOCK and not found_here:
        reason = verdict.reason or "blocked"
        found_here = [Finding(reason, 0, len(piece.value), reason)]
    for found in found_here:
        for index, start, end in piece.back(found.start, found.end):
            yield index, Finding(found.rule, start, end, found.category, found.confidence)


def _replace(
    piece: Piece,
    after: str,
    texts: Sequence[Text],
    replacements: dict[int, str],
    findings: dict[tuple[int, Finding], None],
) -> None:
    if len(piece.parts) == 1 and piece.value == texts[piece.parts[0].index].value:
        replacements[piece.parts[0].index] = after
    elif span := changed(piece.value, after):
        findings |= {
            (index, Finding(_MASKED, start, end, _MASKED)): None for index, start, end in piece.back(*span)
        }


def changed(before: str, after: str) -> Span | None:
    """Return the span of `before` outside of which `after` is the same; None if nothing changed.

    A pure insertion is None too: it hides nothing.
    """
    start = _same(before, after)
    rest = min(len(before), len(after)) - start
    tail = _same(before[::-1][:rest], after[::-1][:rest])
    return (start, len(before) - tail) if start < len(before) - tail else None


def _same(one: str, other: str) -> int:
    return len(os.path.commonprefix((one, other)))  # noqa: RUF071 - characters are what is compared here


_STATES: Mapping[State, int] = {
    state: rank
    for rank, state in enumerate(
        (
            State.JUDGED,
            State.PARTIAL,
            State.SKIPPED,
            State.LIMIT,
            State.THROTTLED,
            State.TIMEOUT,
            State.ERROR,
        )
    )
}


def worst_state(states: Sequence[State]) -> State:
    """Return the state that says least was judged; `JUDGED` if there are none."""
    return max(states, key=_STATES.__getitem__, default=State.JUDGED)
