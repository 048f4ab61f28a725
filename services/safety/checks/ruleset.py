"""The built-in check: rules found by keyword, confirmed by re2, proved by a validator, followed through a stream."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import ahocorasick
import re2

from services.safety.checks import patterns
from services.safety.checks.base import Scan
from services.safety.checks.rules import WORD_START, Rule, RuleError
from services.safety.checks.validators import VALIDATORS, Match, Validator
from services.safety.verdict import Finding

_MEMORY = 64 * 1024 * 1024  # bytes re2 may use for one pattern; a blocklist of `MAX_WORDS` runs in it
_LONG = 512  # bytes; from here on re2's 1.7 ns per byte beat the automaton's 13 and the conversions
_HITS = 32  # keywords looked at one by one in a long text: each costs 4 µs, the automaton on 4 KB costs 50


class _Compiled:
    """A rule ready to run."""

    __slots__ = ("node", "pattern", "rule", "validator")

    def __init__(self, rule: Rule, validators: Mapping[str, Validator]) -> None:
        try:
            self.node = patterns.parse(rule.pattern)
            whole = patterns.parse(_source(rule))
            self.pattern = re2.compile(_flagged(rule, _source(rule)), _options())
        except (patterns.PatternError, re2.error) as error:
            raise RuleError(f"rule {rule.id!r}: {error}") from error
        if (length := patterns.longest(whole)) != rule.max_length:
            raise RuleError(f"rule {rule.id!r}: max_length is {rule.max_length}, expected {length}")
        if rule.validator is not None and rule.validator not in validators:
            raise RuleError(
                f"rule {rule.id!r}: no validator {rule.validator!r}, there are {', '.join(validators)}"
            )
        self.rule = rule
        self.validator = validators[rule.validator] if rule.validator else None


class RuleSet:
    """Several rules as one `Check`. A check that is a rule with parameters brings its own `validators`."""

    def __init__(self, rules: Sequence[Rule], validators: Mapping[str, Validator] = VALIDATORS) -> None:
        compiled = [_Compiled(rule, validators) for rule in rules]
        self.rules = tuple(rules)
        self._always = [entry for entry in compiled if not entry.rule.keywords]
        self._keywords = _automaton([entry for entry in compiled if entry.rule.keywords])
        always = [_flagged(entry.rule, _source(entry.rule)) for entry in self._always]
        words = [_word(keyword) for entry in compiled for keyword in entry.rule.keywords]
        self._gate = _any(always)
        self._words = _any(words)
        self._sieve = _any([*words, *always])
        self._longest = max((len(word) for rule in rules for word in rule.keywords), default=0)
        self._tail = _any(_prefixes(compiled), anchor=r"\z")

    @property
    def max_length(self) -> int | None:
        """The longest match of any rule; None if one has no bound."""
        lengths = [rule.max_length for rule in self.rules]
        return (
            None if None in lengths else max((length for length in lengths if length is not None), default=0)
        )

    def scan(self, text: str) -> Sequence[Finding]:
        """Return the findings in a whole text, rule by rule."""
        return self.scanner().feed(text, final=True).findings

    def scanner(self) -> RuleScanner:
        """Return a fresh state for one text of a stream."""
        return RuleScanner(self)

    def live_from(self, data: bytes, start: int) -> int:
        """Return the byte from which `data` may be the beginning of a match that is still to come."""
        return self._tail.search(data, start).start() if self._tail else len(data)

    def candidates(self, text: str, data: bytes, start: int) -> list[_Compiled]:
        """Return the rules that can have a match in the text, in no order that matters."""
        if len(data) - start > _LONG and (self._sieve is None or not self._sieve.search(data, start)):
            return []
        found = self._by_keyword(text, data, start)
        if self._gate is not None and self._gate.search(data, start):
            return [*found, *self._always]
        return found

    def _by_keyword(self, text: str, data: bytes, start: int) -> list[_Compiled]:
        if self._keywords is None or self._words is None:
            return []
        if len(data) - start <= _LONG:
            return _entries(self._keywords, text)
        found: dict[int, _Compiled] = {}
        for _ in range(_HITS):
            hit = self._words.search(data, start)
            if hit is None:
                return list(found.values())
            at = data[hit.start() : hit.start() + _BYTES * self._longest].decode("utf-8", "ignore")
            found |= {id(entry): entry for entry in _entries(self._keywords, at)}
            start = hit.start() + 1
        return _entries(self._keywords, text)


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
        for entry in self._rules.candidates(self._text, data, begin):
            findings += self._find(entry, data, chars, live)
        settled = min(live, len(self._text))
        result = Scan(findings, self._base + settled)
        self._forget(settled)
        return result

    def _find(self, entry: _Compiled, data: bytes, chars: _Offsets, live: int) -> list[Finding]:
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


_BYTES = 4  # of a character, at most


def _entries(automaton: ahocorasick.Automaton, text: str) -> list[_Compiled]:
    """Return the rules with a keyword in `text`, each once."""
    found: dict[int, _Compiled] = {}
    for _, entries in automaton.iter(text.casefold()):
        for entry in entries:
            found[id(entry)] = entry
    return list(found.values())


def _word(keyword: str) -> str:
    return f"(?i:{re2.escape(keyword)})"


def _source(rule: Rule) -> str:
    return f"{WORD_START}(?:{rule.pattern})" if rule.word_start else rule.pattern


def _flagged(rule: Rule, pattern: str) -> str:
    return f"(?i:{pattern})" if rule.ignore_case else f"(?:{pattern})"


def _prefixes(entries: Sequence[_Compiled]) -> list[str]:
    """Return the patterns of live beginnings. What begins alike is one pattern: its size is what a chunk costs."""
    groups: dict[tuple[bool, bool], list[_Compiled]] = {}
    for entry in entries:
        groups.setdefault((entry.rule.word_start, entry.rule.ignore_case), []).append(entry)
    sources = []
    for (word_start, _), group in groups.items():
        node: patterns.Node = patterns.Choice(tuple(entry.node for entry in group))
        if word_start:
            node = patterns.Sequence((patterns.parse(WORD_START), node))
        sources.append(_flagged(group[0].rule, patterns.prefix(node)))
    return sources


def _any(sources: Sequence[str], anchor: str = "") -> re2._Regexp | None:
    return re2.compile(f"(?:{'|'.join(sources)}){anchor}", _options()) if sources else None


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = _MEMORY
    options.never_capture = True
    options.log_errors = False
    return options


def _automaton(entries: Sequence[_Compiled]) -> ahocorasick.Automaton | None:
    words: Mapping[str, list[_Compiled]] = {
        keyword.casefold(): [] for entry in entries for keyword in entry.rule.keywords
    }
    for entry in entries:
        for keyword in entry.rule.keywords:
            words[keyword.casefold()].append(entry)
    if not words:
        return None
    automaton = ahocorasick.Automaton()
    for word, found in words.items():
        automaton.add_word(word, tuple(found))
    automaton.make_automaton()
    return automaton
