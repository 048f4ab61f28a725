"""A configured check whose failure is a finding of its own name: what the policy says about it holds, not a traceback.

The built-in rules are not contained: a bug there is a bug of the service, which refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from services.openai.texts import Text
from services.safety.canonical.check import Forking
from services.safety.checks.base import Check, PromptCheck, Scan, Scanner
from services.safety.verdict import UNJUDGED, Finding


def contained(name: str, check: Check | PromptCheck) -> Check | PromptCheck:
    """Return `check` so that what it raises is a finding of the rule `name` and the category `UNJUDGED`."""
    return _OfPrompt(name, check) if isinstance(check, PromptCheck) else _Contained(name, check)


class _OfPrompt:
    def __init__(self, name: str, check: PromptCheck) -> None:
        self._name = name
        self._check = check

    def bind(self, prompt: Sequence[Text]) -> Check:
        try:
            return _Contained(self._name, self._check.bind(prompt))
        except Exception:  # noqa: BLE001 - somebody else's code: the policy says what its failure means
            _tell(self._name)
            return _Contained(self._name, _Broken())


class _Contained:
    def __init__(self, name: str, check: Check) -> None:
        self._name = name
        self._check = check

    @property
    def max_length(self) -> int | None:
        return self._check.max_length

    def scan(self, text: str) -> Sequence[Finding]:
        try:
            return self._check.scan(text)
        except Exception:  # noqa: BLE001 - as above
            _tell(self._name)
            return [_failure(self._name, 0, len(text))]

    def scanner(self) -> Scanner:
        try:
            scanner = self._check.scanner()
        except Exception:  # noqa: BLE001 - as above
            _tell(self._name)
            scanner = _Broken()
        return _following(self._name, scanner)


class _Following:
    """One text of a stream. After a failure the rest of the text is not looked at."""

    def __init__(self, name: str, scanner: Scanner) -> None:
        self._name = name
        self._scanner: Scanner | None = scanner
        self._fed = self._settled = 0

    def feed(self, text: str, *, final: bool = False) -> Scan:
        self._fed += len(text)
        if self._scanner is None:
            return Scan((), self._fed)
        try:
            scan = self._scanner.feed(text, final=final)
        except Exception:  # noqa: BLE001 - as above
            _tell(self._name)
            self._scanner = None
            return Scan([_failure(self._name, self._settled, self._fed)], self._fed)
        self._settled = scan.settled
        return scan


class _ForkingFollowing(_Following):
    def fork(self) -> _Following:
        scanner = self._scanner
        other = _following(self._name, scanner.fork() if isinstance(scanner, Forking) else _Broken())
        other._fed, other._settled = self._fed, self._settled  # noqa: SLF001 - of our own class
        return other


def _following(name: str, scanner: Scanner) -> _Following:
    return (_ForkingFollowing if isinstance(scanner, Forking) else _Following)(name, scanner)


class _Broken:
    """Stands for a check or scanner that could not be made."""

    max_length = None

    def scan(self, text: str) -> Sequence[Finding]:  # noqa: ARG002 - whatever the text says
        raise RuntimeError("there is no check to ask")

    def scanner(self) -> Scanner:
        return self

    def feed(self, text: str, *, final: bool = False) -> Scan:  # noqa: ARG002 - whatever the text says
        raise RuntimeError("there is no check to ask")


def _failure(name: str, start: int, end: int) -> Finding:
    return Finding(name, start, max(end, start + 1), UNJUDGED)


def _tell(name: str) -> None:
    structlog.get_logger("safety.checks").exception("check failed", check=name)
