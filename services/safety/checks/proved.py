"""A check whose findings must pass one more test, on the text they found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

from services.safety.checks.base import Scan
from services.safety.checks.ruleset import RuleScanner, RuleSet
from services.safety.verdict import Confidence, Finding

Proof = Callable[[str], bool]
"""Whether the found text is what is looked for."""


class Proved:
    """What `rules` find, where `proof` holds, under one name."""

    def __init__(
        self, rules: RuleSet, proof: Proof, name: str, confidence: Confidence = Confidence.HIGH
    ) -> None:
        self._rules = rules
        self._proof = proof
        self._name = name
        self._confidence = confidence

    @property
    def max_length(self) -> int | None:
        """As of the rules."""
        return self._rules.max_length

    def scan(self, text: str) -> Sequence[Finding]:
        """Return the findings in a whole text."""
        return self.kept(self._rules.scan(text), text, 0)

    def scanner(self) -> ProvedScanner:
        """Return a fresh state for one text of a stream."""
        return ProvedScanner(self, self._rules.scanner())

    def kept(self, findings: Sequence[Finding], text: str, base: int) -> list[Finding]:
        """Return the findings that hold, by their new name; `text` begins at `base`."""
        return [
            replace(one, rule=self._name, category=self._name, confidence=self._confidence)
            for one in findings
            if self._proof(text[one.start - base : one.end - base])
        ]


class ProvedScanner:
    """One text of a stream; keeps what is not settled, to prove what is found in it."""

    def __init__(self, check: Proved, inner: RuleScanner) -> None:
        self._check = check
        self._inner = inner
        self._text = ""
        self._base = 0

    def fork(self) -> ProvedScanner:
        """Return a second scanner in the same state."""
        other = copy.copy(self)
        other._inner = self._inner.fork()  # noqa: SLF001 - of our own class
        return other

    def feed(self, text: str, *, final: bool = False) -> Scan:
        """Take the next piece."""
        self._text += text
        scan = self._inner.feed(text, final=final)
        findings = self._check.kept(scan.findings, self._text, self._base)
        self._text, self._base = self._text[scan.settled - self._base :], scan.settled
        return Scan(findings, scan.settled)
