"""The built-in check: rules chosen by a sieve, confirmed by re2, proved by a validator, followed through a stream."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from services.safety.checks import patterns
from services.safety.checks.base import Scan
from services.safety.checks.compiled import Compiled, any_of, flagged
from services.safety.checks.rules import WORD_START, Rule
from services.safety.checks.sieve import Engine, Re2Sieve
from services.safety.checks.validators import VALIDATORS, Match, Validator
from services.safety.verdict import Finding


class RuleSet:
    """Several rules as one `Check`. A check that is a rule with parameters brings its own `validators`."""

    def __init__(
        self,
        rules: Sequence[Rule],
        validators: Mapping[str, Validator] = VALIDATORS,
        engine: Engine = Re2Sieve,
    ) -> None:
        compiled = [Compiled(rule, validators) for rule in rules]
        self.rules = tuple(rules)
        self._sieve = engine(compiled)
        self._tail = any_of(_prefixes(compiled), after=r"\z") if compiled else None

    @property
    def max_length(self) -> int | None:
        """The longest match of any rule; None if one has no bound."""
        lengths = [rule.max_length for rule in self.rules]
        return (
            None if None in lengths else max((length for length in lengths if length is not None), default=0)
        )

    def scan(self, text: str) -> Sequence[Finding]:
        """Return the findings in a whole text, rule by rule."""
        data = encode(text)
        found = self._sieve.candidates(data, 0)
        return self.scanner().whole(text, data, found) if found else []

    def scanner(self) -> RuleScanner:
        """Return a fresh state for one text of a stream."""
        return RuleScanner(self)

    def live_from(self, data: bytes, start: int) -> int:
        """Return the byte from which `data` may be the beginning of a match that is still to come."""
        return self._tail.search(data, start).start() if self._tail else len(data)

    def candidates(self, data: bytes, start: int) -> Sequence[Compiled]:
        """Return the rules that may have a match in `data` from byte `start` on."""
        return self._sieve.candidates(data, start)


class RuleScanner:
    """One text of a stream. Holds the text from the first live partial match on, and one character before it."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._text = ""
        self._base = 0  # the offset of `_text` in the whole text
        self._start = 0  # where in `_text` the unsettled part begins: 1 once there is a character before it
        self._resume: dict[str, int] = {}  # where a rule goes on that matched past what is settled

    def fork(self) -> RuleScanner:
        """Return a second scanner in the same state."""
        other = copy.copy(self)
        other._resume = dict(self._resume)  # noqa: SLF001 - of our own class
        return other

    def feed(self, text: str, *, final: bool = False) -> Scan:
        """Take the next piece."""
        self._text += text
        data = encode(self._text)
        chars = _Offsets(self._text, data)
        begin = chars.byte(self._start)
        live = len(self._text) + 1 if final else chars.char(self._rules.live_from(data, begin))
        if live <= self._start:  # all of it may be one match to come: nothing can be settled
            return Scan((), self._base + self._start)
        findings = []
        for entry in self._rules.candidates(data, begin):
            findings += self._find(entry, data, chars, live)
        settled = min(live, len(self._text))
        result = Scan(findings, self._base + settled)
        self._forget(settled)
        return result

    def whole(self, text: str, data: bytes, rules: Sequence[Compiled]) -> list[Finding]:
        """Return the findings of `rules` in a whole text; `data` is the text in UTF-8."""
        self._text, chars = text, _Offsets(text, data)
        return [found for entry in rules for found in self._find(entry, data, chars, len(text) + 1)]

    def _find(self, entry: Compiled, data: bytes, chars: _Offsets, live: int) -> list[Finding]:
        """Return the matches that begin before `live`: nothing can follow that would change them."""
        rule, found = entry.rule, []
        position = max(self._start, self._resume.get(rule.id, 0) - self._base)
        while position <= len(self._text) and (match := entry.pattern.search(data, chars.byte(position))):
            start, end = chars.char(match.start()), chars.char(match.end())
            if start >= live:
                break
            position = start + 1
            if entry.validator is None or entry.validator(self._match(start, end)):
                position = max(end, position)
                found.append(
                    Finding(rule.id, self._base + start, self._base + end, rule.category, rule.confidence)
                )
            self._resume[rule.id] = self._base + position
        return found

    def _match(self, start: int, end: int) -> Match:
        return Match(self._text[start:end], self._text[max(start - 1, 0) : start], self._text[end : end + 1])

    def _forget(self, settled: int) -> None:
        keep = max(settled - 1, 0)
        self._text, self._start = self._text[keep:], settled - keep
        self._base += keep
        if self._resume:
            now = self._base + self._start
            self._resume = {rule: position for rule, position in self._resume.items() if position > now}


def encode(text: str) -> bytes:
    """Return `text` in UTF-8, half surrogate pairs as U+FFFD: a character stays a character."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text).encode("utf-8")


class _Offsets:
    """Offsets in characters and in the bytes of their UTF-8.

    Counts from the last place asked for, so that many matches in one text cost its length once, not each time.
    """

    __slots__ = ("_byte", "_char", "_data", "_same", "_text")

    def __init__(self, text: str, data: bytes) -> None:
        self._text, self._data, self._same = text, data, len(text) == len(data)
        self._char = self._byte = 0

    def byte(self, char: int) -> int:
        """Return where the character stands in the bytes."""
        if self._same:
            return char
        if char >= self._char:
            self._byte += len(encode(self._text[self._char : char]))
        else:
            self._byte -= len(encode(self._text[char : self._char]))
        self._char = char
        return self._byte

    def char(self, byte: int) -> int:
        """Return which character begins at the byte."""
        if self._same:
            return byte
        if byte >= self._byte:
            self._char += len(self._data[self._byte : byte].decode("utf-8"))
        else:
            self._char -= len(self._data[byte : self._byte].decode("utf-8"))
        self._byte = byte
        return self._char


def _prefixes(entries: Sequence[Compiled]) -> list[str]:
    """Return the patterns of live beginnings. What begins alike is one pattern: its size is what a chunk costs."""
    groups: dict[tuple[bool, bool], list[Compiled]] = {}
    for entry in entries:
        groups.setdefault((entry.rule.word_start, entry.rule.ignore_case), []).append(entry)
    sources = []
    for (word_start, _), group in groups.items():
        node: patterns.Node = patterns.Choice(tuple(entry.node for entry in group))
        if word_start:
            node = patterns.Sequence((patterns.parse(WORD_START), node))
        sources.append(flagged(group[0].rule, patterns.prefix(node)))
    return sources
