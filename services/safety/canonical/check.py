"""A check that looks at every view of a text and reports where in the original its findings stand.

A whole text is scanned in all its views. A stream is scanned as it is and, character by character, with escapes undone
and characters folded: for these two nothing of a match leaves. Encodings, ciphers, and text hidden in tags or variation
selectors need more than the next character to be read: those only a whole text or a window shows (`hidden`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from services.safety.canonical.characters import fold
from services.safety.canonical.escapes import may_begin, open_from
from services.safety.canonical.view import Piece, Span, View, shifted
from services.safety.canonical.views import followed, readings
from services.safety.checks.base import Check, Scan, Scanner
from services.safety.verdict import Finding


@runtime_checkable
class Forking(Scanner, Protocol):
    """A scanner that can go two ways from where it is."""

    def fork(self) -> Forking:
        """Return a second scanner in the same state."""


class Canonical:
    """Makes a check of plain text one that tricks with characters and encodings do not pass."""

    def __init__(self, inner: Check) -> None:
        self.inner = inner

    @property
    def max_length(self) -> int | None:
        """The longest match in a view; what stands for it may be longer, up to the cap of a stream."""
        return self.inner.max_length

    def scan(self, text: str) -> Sequence[Finding]:
        """Return the findings in `text` and in its views, each once."""
        found = self.inner.scan(text)
        more = [_placed(view, finding) for view in readings(text) for finding in self.inner.scan(view.text)]
        return _Once().keep([*found, *more]) if more else found

    def hidden(self, text: str) -> Sequence[Finding]:
        """Return the findings in a whole text that a stream of it would not show."""
        if not (found := self.scan(text)):
            return ()
        view = followed(text)
        shown = [*self.inner.scan(text), *(_placed(view, one) for one in self.inner.scan(view.text))]
        return [one for one in found if not any(one.start < s.end and s.start < one.end for s in shown)]

    def scanner(self) -> Scanner:
        """Return a state for one text of a stream."""
        return CanonicalScanner(self)


class CanonicalScanner:
    """One text of a stream, as it is and, from the first character that may say something else, as it reads then."""

    def __init__(self, check: Canonical) -> None:
        self._check = check
        self._raw = check.inner.scanner()
        self._fed = 0
        self._folded: _Folded | None = None
        self._waiting: list[Finding] = []  # found in one of the two before the other has settled that far
        self._once = _Once()

    def feed(self, text: str, *, final: bool = False) -> Scan:
        """Take the next piece. A text that comes in one piece is a whole text."""
        if final and not self._fed:
            return Scan(self._check.scan(text), len(text))
        if self._folded is None and _differs(text) and isinstance(self._raw, Forking):
            self._folded = _Folded(self._raw.fork(), self._fed)
        self._fed += len(text)
        raw = self._raw.feed(text, final=final)
        if self._folded is None:
            return raw
        other = self._folded.feed(text, final=final)
        settled = min(raw.settled, other.settled)
        self._waiting += [*raw.findings, *other.findings]
        ready = [finding for finding in self._waiting if finding.start < settled]
        self._waiting = [finding for finding in self._waiting if finding.start >= settled]
        return Scan(self._once.keep(ready), settled)


class _Folded:
    """Follows the text as it reads and speaks in offsets of the original. An escape that is not complete waits."""

    def __init__(self, scanner: Forking, at: int) -> None:
        self._scanner = scanner
        self._open = ""
        self._read = self._said = at  # characters of the original and of the folded text so far
        # The views that are not settled yet, by where they begin in the folded text and in the original.
        self._starts = [0]
        self._views = [(0, View("", [Piece(0, shifted(0))]))]

    def feed(self, text: str, *, final: bool) -> Scan:
        text = self._open + text
        cut = len(text) if final else open_from(text)
        text, self._open = text[:cut], text[cut:]
        view = followed(text)
        if view.text:
            self._starts.append(self._said)
            self._views.append((self._read, view))
        self._read += len(text)
        self._said += len(view.text)
        scan = self._scanner.feed(view.text, final=final)
        findings = [_at(finding, self._span(finding.start, finding.end)) for finding in scan.findings]
        settled = self._read if scan.settled >= self._said else self._span(scan.settled, scan.settled)[0]
        self._forget(scan.settled)
        return Scan(findings, settled)

    def _span(self, start: int, end: int) -> Span:
        return self._origin(start)[0], self._origin(max(end - 1, start))[1]

    def _origin(self, offset: int) -> Span:
        index = bisect_right(self._starts, offset) - 1
        read, view = self._views[index]
        start, end = view.origin(offset - self._starts[index], offset - self._starts[index] + 1)
        return read + start, read + end

    def _forget(self, settled: int) -> None:
        past = max(bisect_right(self._starts, settled) - 1, 0)
        del self._starts[:past], self._views[:past]


class _Once:
    """Drops what another view has already told: findings of one rule within another of it."""

    def __init__(self) -> None:
        self._reach: dict[str, int] = {}

    def keep(self, findings: Iterable[Finding]) -> list[Finding]:
        kept = []
        for finding in sorted(findings, key=lambda one: (one.start, -one.end, one.rule)):
            if finding.end > self._reach.get(finding.rule, -1):
                self._reach[finding.rule] = finding.end
                kept.append(finding)
        return kept


def _differs(text: str) -> bool:
    return fold(text) != text or may_begin(text)


def _placed(view: View, finding: Finding) -> Finding:
    return _at(finding, view.origin(finding.start, finding.end))


def _at(finding: Finding, span: Span) -> Finding:
    return Finding(finding.rule, *span, finding.category, finding.confidence)
