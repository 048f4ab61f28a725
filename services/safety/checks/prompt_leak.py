"""Check `prompt-leak`: the answer says what the system prompt says, `words` words in a row.

    checks:
      leak: {type: prompt-leak, parameters: {words: 10}}

Words are compared without case and punctuation; what the user has said too is no leak. In a stream, words wait while
they go on as the system prompt does, so no word of a leak leaves, and a text that shares a phrase with it waits for the
next word that differs.
"""

from __future__ import annotations

import copy
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from services.openai.texts import Text
from services.safety.checks.base import Check, Scan
from services.safety.verdict import Finding

NAME = "prompt-leak"
WORDS = 10  # in a row; fewer are turns of phrase, which any two texts on one subject share
_WORD = re.compile(r"\w+")
_ROLES = frozenset({"system", "developer"})
_FIELDS = frozenset({"system", "instructions"})


class PromptLeak:
    """Binds the comparison to a prompt."""

    def __init__(self, parameters: Mapping[str, object]) -> None:
        words = parameters.get("words", WORDS)
        if set(parameters) - {"words"} or not isinstance(words, int) or words < 2:  # noqa: PLR2004 - one word is no phrase
            raise ValueError("expected `words`, a number from 2 on, or nothing")
        self._words = words

    def bind(self, prompt: Sequence[Text]) -> Check:
        """Return the check of the answer to `prompt`."""
        system = [text.value for text in prompt if text.scannable and _is_system(text)]
        user = [text.value for text in prompt if text.scannable and not _is_system(text)]
        return Leak(system, user, self._words)


def _is_system(text: Text) -> bool:
    return text.role in _ROLES or (bool(text.path) and text.path[0] in _FIELDS)


class Leak:
    """Finds what `system` and an answer have in common and `user` has not."""

    def __init__(self, system: Sequence[str], user: Sequence[str], words: int) -> None:
        self.words = words
        self.user = [f" {' '.join(_words(text))} " for text in user]
        self.places: dict[str, list[int]] = {}
        place = 0
        for text in system:
            for word in _words(text):
                self.places.setdefault(word, []).append(place)
                place += 1
            place += 1  # no phrase goes from one text into the next
        self._sorted = sorted(self.places)

    @property
    def max_length(self) -> int | None:
        """A system prompt has no longest form."""
        return None

    def scan(self, text: str) -> Sequence[Finding]:
        """Return the findings in a whole text."""
        return self.scanner().feed(text, final=True).findings

    def scanner(self) -> LeakScanner:
        """Return a fresh state for one text of a stream."""
        return LeakScanner(self)

    def begins(self, part: str) -> bool:
        """Say whether a word of the system prompt begins with `part`."""
        at = bisect_left(self._sorted, part)
        return at < len(self._sorted) and self._sorted[at].startswith(part)


class _Word(NamedTuple):
    start: int
    end: int
    text: str


class LeakScanner:
    """One text of a stream. Holds the words that go on as the system prompt does."""

    def __init__(self, check: Leak) -> None:
        self._check = check
        self._text = ""
        self._base = 0
        self._run: list[_Word] = []  # the longest end of the text so far that the system prompt says
        self._runs: dict[int, int] = {}  # place in the system prompt → words in a row that end there

    def fork(self) -> LeakScanner:
        """Return a second scanner in the same state."""
        return copy.copy(self)

    def feed(self, text: str, *, final: bool = False) -> Scan:
        """Take the next piece."""
        self._text += text
        findings: list[Finding] = []
        end, part = self._base + len(self._text), ""
        for found in _WORD.finditer(self._text):
            if found.end() == len(self._text) and not final:  # it may go on
                part, end = found[0], self._base + found.start()
                break
            findings += self._word(
                _Word(self._base + found.start(), self._base + found.end(), found[0].casefold())
            )
        if final:
            findings += self._broken()
        self._text, self._base = self._text[end - self._base :], end
        settled = end if final or not part or self._check.begins(part.casefold()) else end + len(part)
        return Scan(findings, self._run[0].start if self._run else settled)

    def _word(self, word: _Word) -> list[Finding]:
        places = self._check.places.get(word.text, ())
        self._runs = {place: self._runs.get(place - 1, 0) + 1 for place in places}
        longest = max(self._runs.values(), default=0)
        findings = self._broken() if longest <= len(self._run) else []
        self._run = [*self._run, word][-longest:] if longest else []
        return findings

    def _broken(self) -> list[Finding]:
        """Return what the run that ends here has leaked."""
        run = self._run
        if len(run) < self._check.words:
            return []
        phrase = f" {' '.join(word.text for word in run)} "
        if any(phrase in user for user in self._check.user):
            return []
        return [Finding(NAME, run[0].start, run[-1].end, NAME)]


def _words(text: str) -> list[str]:
    return [found[0].casefold() for found in _WORD.finditer(text)]
