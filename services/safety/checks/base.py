"""The two interfaces of a check: judge a whole text, or follow one text of a stream. Pure and synchronous."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from services.openai.texts import Text
from services.safety.verdict import Finding


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scanner knows after the last piece."""

    findings: Sequence[Finding]
    """New and final: no text to come changes them. Offsets count from the beginning of the whole text."""
    settled: int
    """Every finding that begins before this offset has been reported."""


class Scanner(Protocol):
    """One text of a stream as one check sees it."""

    def feed(self, text: str, *, final: bool = False) -> Scan:
        """Take the next piece. `final` says that the text ends with it: then everything is settled."""


class Check(Protocol):
    """Finds things in a text. The same text gives the same findings, however a scanner gets it."""

    def scan(self, text: str) -> Sequence[Finding]:
        """Return the findings in a whole text."""

    def scanner(self) -> Scanner:
        """Return a fresh state for one text of a stream."""

    @property
    def max_length(self) -> int | None:
        """Characters of the longest possible match; None if there is no longest, then a cap cuts streams short."""


@runtime_checkable
class PromptCheck(Protocol):
    """Judges an answer by its prompt: what it does is known once the prompt is."""

    def bind(self, prompt: Sequence[Text]) -> Check:
        """Return the check of the answer to `prompt`."""


class Windowed:
    """A scanner for any check that knows its longest match: it holds that much back, whatever the text.

    Exact for a check whose findings depend on no more than `max_length` characters from their start.
    """

    def __init__(self, check: Check, max_length: int) -> None:
        self._check = check
        self._window = max_length
        self._text = ""
        self._base = 0

    def feed(self, text: str, *, final: bool = False) -> Scan:
        """Take the next piece."""
        self._text += text
        end = self._base + len(self._text)
        settled = end if final else max(self._base, end - self._window + 1)
        found = (
            Finding(f.rule, f.start + self._base, f.end + self._base, f.category, f.confidence)
            for f in self._check.scan(self._text)
        )
        findings = [finding for finding in found if finding.start < settled or final]
        self._text, self._base = self._text[settled - self._base :], settled
        return Scan(findings, settled)
