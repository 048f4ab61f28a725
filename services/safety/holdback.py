"""One text of a stream: what may leave now, what is held, what is masked. A whole text is a stream of one piece.

The promise: no character of a match ever leaves, however the text is cut, and a character that no match can hold
leaves at once. Overlapping matches become one mask, named after the first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.safety.masks import RESTORED, Masks
from services.safety.policy import Side
from services.safety.verdict import Action, Finding, State

LIMIT = "limit"
"""Rule and category of what grew over the cap of a stream."""


@dataclass(frozen=True, slots=True)
class Released:
    """What comes of one piece."""

    text: str
    """What may leave, masks in place. Of a piece that blocks it is what stands before the match."""
    findings: tuple[tuple[Finding, Action], ...] = ()
    block: str = ""
    """The category that blocks; empty if none does."""
    state: State = State.JUDGED


class Tail:
    """Follows one text under one side of a policy."""

    def __init__(
        self, side: Side, *, is_json: bool = False, role: str = "", masks: Masks | None = None
    ) -> None:
        self._side = side
        self._role = role
        self._masks = masks or Masks(side)
        self._scanners = [check.scanner() for check in side.checks]
        self._watchers = [check.scanner() for check in side.watching]
        self._held = ""
        self._offset = 0  # of `_held` in the whole text
        self._masked = 0  # up to here the text is inside a mask
        self._waiting: list[Finding] = []  # found by one check before another has settled that far
        self._swallow = False  # a block, or the cap was reached: the rest of the text does not leave
        self._quotes = _Quotes() if is_json else None

    @property
    def held(self) -> int:
        """Bytes that wait for what comes next, in UTF-8."""
        return len(self._held.encode("utf-8", "surrogatepass")) if self._held else 0

    def feed(self, text: str, *, final: bool = False) -> Released:
        """Take the next piece; `final` says that the text ends with it."""
        if self._swallow:
            return Released("")
        seen = self._watch(text, final=final) if self._watchers else []
        self._held += text
        settled = self._settle(text, final=final)
        ready = [(finding, self._action(finding)) for finding in self._ready(settled)]
        blocked = next((finding for finding, action in ready if action is Action.BLOCK), None)
        upto = settled if blocked is None else blocked.start
        out: list[str] = []
        for finding in _merged([f for f, action in ready if action is Action.REDACT and f.start < upto]):
            self._mask(finding, out)
        self._release(upto, out)
        seen += [item for item in ready if item[1] is not Action.ALLOW and item[0].category != RESTORED]
        if blocked is not None:
            self._swallow, self._held = True, ""
            return Released("".join(out), tuple(seen), block=blocked.category)
        if len(self._held) > self._side.hold_limit:
            return self._over(out, seen)
        return Released("".join(out), tuple(seen))

    def _watch(self, text: str, *, final: bool) -> list[tuple[Finding, Action]]:
        found = [
            finding for watcher in self._watchers for finding in watcher.feed(text, final=final).findings
        ]
        return [(f, Action.INSPECT) for f in found if self._action(f) is not Action.ALLOW]

    def _action(self, finding: Finding) -> Action:
        if finding.category == RESTORED:
            return Action.REDACT
        return self._side.action(finding, self._role)

    def _settle(self, text: str, *, final: bool) -> int:
        settled = self._offset + len(self._held)
        for scanner in self._scanners:
            scan = scanner.feed(text, final=final)
            self._waiting += scan.findings
            settled = min(settled, scan.settled)
        return settled

    def _ready(self, settled: int) -> list[Finding]:
        if not self._waiting:
            return []
        ready = sorted((f for f in self._waiting if f.start < settled), key=lambda f: (f.start, -f.end))
        self._waiting = [f for f in self._waiting if f.start >= settled]
        return ready

    def _mask(self, finding: Finding, out: list[str]) -> None:
        if finding.start >= self._masked:
            self._release(finding.start, out)
            value = self._held[finding.start - self._offset : finding.end - self._offset]
            mask = self._masks.of(finding, self._role, value)
            out.append(self._quotes.mask(mask) if self._quotes else mask)
        self._masked = max(self._masked, finding.end)

    def _release(self, upto: int, out: list[str]) -> None:
        if upto <= self._offset:
            return
        inside = min(max(self._masked, self._offset), upto) - self._offset
        dropped, piece = self._held[:inside], self._held[inside : upto - self._offset]
        self._held, self._offset = self._held[upto - self._offset :], upto
        if self._quotes:
            self._quotes.skip(dropped)
            piece = self._quotes.say(piece)
        out.append(piece)

    def _over(self, out: list[str], seen: list[tuple[Finding, Action]]) -> Released:
        """Block, or let the rest of the text go unseen: a match without a longest form has grown over the cap."""
        cut = Finding(LIMIT, self._offset, self._offset + len(self._held), LIMIT)
        if self._side.at_limit is Action.BLOCK:
            return Released("".join(out), (*seen, (cut, Action.BLOCK)), block=LIMIT, state=State.LIMIT)
        self._mask(cut, out)
        self._swallow, self._held = True, ""
        return Released("".join(out), (*seen, (cut, Action.REDACT)), state=State.LIMIT)


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """Return `findings`, which are sorted, with those that overlap as one, named after the first."""
    merged: list[Finding] = []
    for finding in findings:
        if merged and finding.start < merged[-1].end:
            first = finding if merged[-1].category == RESTORED else merged[-1]
            merged[-1] = replace(first, start=merged[-1].start, end=max(merged[-1].end, finding.end))
        else:
            merged.append(finding)
    return merged


@dataclass(slots=True)
class _Quotes:
    """Keeps JSON that arrives as text valid: knows whether the text, and what has left of it, is inside a string."""

    inside: bool = False
    escaped: bool = False
    said_inside: bool = False

    def mask(self, mask: str) -> str:
        """Return the mask as it must stand here: in place of a number a string, after half an escape its other half."""
        rest = "\\" if self.escaped else ""
        quoted = json.dumps(mask, ensure_ascii=False)
        return self._agree() + rest + (quoted[1:-1] if self.inside else quoted)

    def say(self, text: str) -> str:
        """Return text that leaves, with the quote that a mask before it may have swallowed."""
        if not text:
            return ""
        quote = self._agree()
        self.skip(text)
        self.said_inside = self.inside
        return quote + text

    def skip(self, text: str) -> None:
        """Note text that does not leave."""
        for char in text if self.escaped or '"' in text or "\\" in text else "":
            if self.escaped:
                self.escaped = False
            elif char == "\\":
                self.escaped = self.inside
            elif char == '"':
                self.inside = not self.inside

    def _agree(self) -> str:
        quote = '"' if self.said_inside != self.inside else ""
        self.said_inside = self.inside
        return quote
