"""Judge a whole document: walk it, scan every text, and say what must change. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from services.openai.texts import Json, Kind, Path, Text
from services.safety.adjacent import Known, crossing
from services.safety.canonical.check import Canonical
from services.safety.holdback import Released, Tail
from services.safety.masks import Masks, Vault
from services.safety.policy import Side, worst
from services.safety.verdict import UNJUDGED, Action, Finding, Located, Report, State, Verdict

_JSON_FIELDS = frozenset({"arguments", "partial_json", "delta"})
UNSCANNABLE = "unscannable"
"""The category of a block because of something that no check can read."""
UNDECODABLE = "undecodable"
"""The category of a block because what claims to be JSON is not."""


@dataclass(slots=True)
class Tally:
    """What has been found and read so far in one prompt or answer."""

    findings: list[Located] = field(default_factory=list)
    scanned: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Why → bytes, or items of what has no bytes."""
    exempt: int = 0
    """Bytes of words of the protocol."""
    block: str = ""
    state: State = State.JUDGED
    reported: list[Report] = field(default_factory=list)
    """Providers that were asked."""
    failed_open: list[str] = field(default_factory=list)
    """Why something passed that should have been judged."""
    prompt: Sequence[Text] = ()
    """The texts of the prompt, once it is judged."""
    key: bytes = b""
    """Keys the hashes in masks."""
    vault: Vault | None = None
    """Where placeholders are kept."""

    def tail(self, side: Side, text: Text) -> Tail:
        """Return what follows one text."""
        masks = Masks(side, self.key, self.vault)
        return Tail(side, is_json=is_json(text), role=text.role, masks=masks)

    def add(self, path: Path, released: Released) -> None:
        """Take the outcome of one piece of the text at `path`."""
        for finding, action in released.findings:
            if finding.category == UNJUDGED:
                self.state = State.ERROR
                self.failed_open += [finding.rule] if action is Action.INSPECT else []
        if released.findings:
            self.findings += [Located(finding, path, action) for finding, action in released.findings]
        self.block = self.block or released.block
        if released.state is not State.JUDGED:
            self.state = released.state

    def skip(self, why: str, size: int, state: State = State.SKIPPED) -> None:
        """Note something that was not scanned."""
        self.skipped[why] += size
        if self.state is State.JUDGED:
            self.state = State.PARTIAL if self.scanned or self.findings else state

    def not_judged(self, why: str, size: int, side: Side, state: State) -> None:
        """Note what could not be judged because something failed: it blocks, or passes and is counted as such."""
        self.skip(why, size, state)
        if side.fail_open:
            self.failed_open.append(why)
        else:
            self.block = self.block or why

    def verdict(self) -> Verdict:
        """Return the judgement so far."""
        action = Action.BLOCK if self.block else worst([located.action for located in self.findings])
        return Verdict(
            action, self.state, tuple(self.findings), self.scanned, sum(self.skipped.values()),
            tuple(sorted(self.skipped)), self.block, self.exempt, tuple(dict.fromkeys(self.failed_open)),
        )  # fmt: skip


def judge(texts: Iterable[Text], side: Side, tally: Tally) -> dict[Path, Json]:
    """Scan whole texts into `tally` and return the values to put in their places."""
    edits: dict[Path, Json] = {}
    texts = list(texts)
    across = crossing(texts, (*side.checks, *side.watching))
    for text in texts:
        if text.kind is Kind.LABEL:
            tally.exempt += text.size
            continue
        if not text.scannable:
            skip(text, side, tally)
            continue
        tally.scanned += size(text.value)
        if text.path not in across and side.is_clean(text.value):
            continue
        known = across.get(text.path)
        here = replace(side, checks=(*side.checks, Known(known))) if known else side
        released = tally.tail(here, text).feed(text.value, final=True)
        tally.add(text.path, released)
        if released.text != text.value and not released.block:
            edits[text.path] = released.text
    return edits


def judge_hidden(texts: Iterable[Text], side: Side, tally: Tally) -> dict[Path, Json]:
    """Do the same for what a stream of these texts has not shown: what stands in encodings and ciphers."""
    edits: dict[Path, Json] = {}
    checks = [check for check in (*side.checks, *side.watching) if isinstance(check, Canonical)]
    for text in texts:
        found = [finding for check in checks for finding in check.hidden(text.value)]
        if found:
            here = replace(side, checks=(Known(found),), watching=())
            plain = replace(
                text, kind=Kind.CONTENT
            )  # in JSON such runs stand in strings; where these begin is past
            released = tally.tail(here, plain).feed(text.value, final=True)
            tally.add(text.path, released)
            edits[text.path] = released.text
    return edits


def mask_spans(text: str, findings: Iterable[Finding], side: Side) -> str:
    """Return `text` with the findings' spans masked; overlapping ones become one mask, named after the first."""
    out, cursor, masked = [], 0, 0
    for finding in sorted(findings, key=lambda finding: (finding.start, -finding.end)):
        if finding.start >= masked:
            out += [text[cursor : finding.start], side.mask.format(rule=finding.rule)]
        cursor = masked = max(masked, finding.end)
    return "".join(out) + text[cursor:]


def skip(text: Text, side: Side, tally: Tally) -> None:
    """Note an unscannable text, which blocks where the policy says so. Logprobs repeat what is scanned elsewhere."""
    tally.skip(text.kind.value, text.size)
    if not side.allow_unscannable and text.kind is not Kind.LOGPROBS:
        tally.block = tally.block or UNSCANNABLE


def without_logprobs(texts: Iterable[Text], document: Json) -> dict[Path, Json]:
    """Return the edits that empty the log probabilities among `texts`: they hold the answer token by token."""
    places = [text.path for text in texts if text.kind is Kind.LOGPROBS]
    return {path: [] if isinstance(_at(document, path), list) else None for path in places}


def is_json(text: Text) -> bool:
    """Whether the text is itself JSON, as a tool's arguments are."""
    return text.kind is Kind.ARGUMENTS and text.path[-1] in _JSON_FIELDS


def size(text: str) -> int:
    """Return the bytes of `text` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _at(document: Json, path: Path) -> Json:
    value: Json = document
    for step in path:
        match value, step:
            case dict(), str():
                value = value[step]
            case list(), int():
                value = value[step]
            case _:
                raise LookupError(f"not in the document: {path}")
    return value
