"""Which rules can have a match in a text. Every text is asked, so it must be cheap; it is wrong in one direction only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import re2

from services.safety.checks.compiled import Compiled, any_of, flagged

_GROUPS = 8  # patterns searched for one after the other; further categories share the last
_FEW = 4  # keywords without letters that are looked for as bytes, before a pattern is
_MANY = 64  # keywords; a list of words is one pattern, which runs quicker than they are looked for one by one


class Sieve(Protocol):
    """Made of all rules at once."""

    def candidates(self, data: bytes, start: int) -> Sequence[Compiled]:
        """Return the rules that may have a match in `data` (UTF-8) from byte `start` on, in their order."""


Engine = Callable[[Sequence[Compiled]], Sieve]
"""Makes the sieve of a set of rules."""


class Re2Sieve:
    """First all keywords at once, and the rules without any; then, category by category, the rules at once.

    One automaton of all rules would have more states than a new text leaves in any cache: re2 makes them as it meets
    them, at a microsecond and more each. Categories share their beginnings, and their automata stay small.
    """

    def __init__(self, rules: Sequence[Compiled]) -> None:
        self._order = {entry.rule.id: place for place, entry in enumerate(rules)}
        keyed = [entry for entry in rules if entry.keywords and not entry.needs_wide]
        always = [entry for entry in rules if not entry.keywords and not entry.needs_wide]
        first = [f"(?i:{re2.escape(word)})" for entry in keyed for word in entry.rule.keywords]
        first += [flagged(entry.rule, entry.relaxed) for entry in always]
        self._first = any_of(first) if first else None
        self._groups = [*_groups(always), *_by_category(keyed)]
        self._wide = _groups([entry for entry in rules if entry.needs_wide])

    def candidates(self, data: bytes, start: int) -> Sequence[Compiled]:
        """Return the rules that may have a match."""
        found: list[Compiled] = []
        if self._first is not None and self._first.search(data, start):
            for group in self._groups:
                found += group.candidates(data, start)
        if self._wide and not data.isascii():
            for group in self._wide:
                found += group.candidates(data, start)
        return sorted(found, key=lambda entry: self._order[entry.rule.id]) if len(found) > 1 else found


class _Group:
    """Rules whose relaxed patterns are one pattern."""

    def __init__(self, rules: Sequence[Compiled]) -> None:
        self._rules = rules
        self._any = any_of(flagged(entry.rule, entry.relaxed) for entry in rules)
        words = _keywords(rules)
        few = len(words) <= _FEW and all(entry.keywords for entry in rules)
        self._needed = tuple(words) if few and b"".join(words).upper() == b"".join(words) else ()

    def candidates(self, data: bytes, start: int) -> Sequence[Compiled]:
        if self._needed and not any(word in data for word in self._needed):
            return ()
        if not self._any.search(data, start):
            return ()
        if len(self._rules) == 1:
            return self._rules
        folded = data.lower() if data.isascii() else data.decode().casefold().encode()
        return [entry for entry in self._rules if _may(entry, folded)]


def _may(entry: Compiled, folded: bytes) -> bool:
    words = entry.keywords
    return not words or len(words) > _MANY or any(word in folded for word in words)


def _groups(rules: Sequence[Compiled]) -> list[_Group]:
    return [_Group(rules)] if rules else []


def _by_category(rules: Iterable[Compiled]) -> list[_Group]:
    groups: dict[str, list[Compiled]] = {}
    for entry in rules:
        category = entry.rule.category
        groups.setdefault(
            category if category in groups or len(groups) < _GROUPS else _last(groups), []
        ).append(entry)
    return [_Group(group) for group in groups.values()]


def _last(groups: dict[str, list[Compiled]]) -> str:
    return next(reversed(groups))


def _keywords(rules: Iterable[Compiled]) -> list[bytes]:
    return list(dict.fromkeys(word for entry in rules for word in entry.keywords))
