"""The sieve on hyperscan, an optional engine: what it lets pass, re2 and the validators judge as ever.

It reads ASCII texts, byte by byte; for others the two engines differ about which letters are the same in another case,
and re2's sieve is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import hyperscan

from services.safety.checks.compiled import Compiled
from services.safety.checks.sieve import Re2Sieve

# Each rule is told once, and what the engine cannot say exactly it may say too often.
_FLAGS = hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_PREFILTER


class Hyperscan:
    """Makes sieves. Policies with the same rules share one: to compile all rules takes seconds."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, ...], HyperscanSieve] = {}

    def __call__(self, rules: Sequence[Compiled]) -> HyperscanSieve:
        """Return the sieve of `rules`."""
        key = tuple(entry.rule.id for entry in rules)
        if key not in self._made:
            self._made[key] = HyperscanSieve(rules)
        return self._made[key]


class HyperscanSieve:
    """Asks hyperscan in block mode which relaxed patterns match. Rules that it refuses stay on re2."""

    def __init__(self, rules: Sequence[Compiled]) -> None:
        self._order = {id(entry): place for place, entry in enumerate(rules)}
        self._rules = [entry for entry in rules if not entry.needs_wide]
        self._other = Re2Sieve(rules)
        database = _database(self._rules)
        if database is None:
            self._rules = [entry for entry in self._rules if _database([entry]) is not None]
            database = _database(self._rules)
        self._database = database
        self._refused = Re2Sieve(
            [entry for entry in rules if not entry.needs_wide and entry not in self._rules]
        )

    def candidates(self, data: bytes, start: int) -> Sequence[Compiled]:
        """Return the rules that may have a match. What stands before `start` is read too: one character at most."""
        if self._database is None or not data.isascii():
            return self._other.candidates(data, start)
        found: list[int] = []
        self._database.scan(data, match_event_handler=lambda place, *_: found.append(place))
        refused = self._refused.candidates(data, start)
        return sorted([*map(self._rules.__getitem__, found), *refused], key=lambda one: self._order[id(one)])


def _database(rules: Sequence[Compiled]) -> hyperscan.Database | None:
    """Return the compiled patterns of `rules`; None if hyperscan refuses one of them, or there is none."""
    if not rules:
        return None
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    try:
        database.compile(
            expressions=[entry.relaxed.encode() for entry in rules],
            ids=list(range(len(rules))),
            elements=len(rules),
            flags=[_FLAGS | (hyperscan.HS_FLAG_CASELESS if entry.rule.ignore_case else 0) for entry in rules],
        )
    except hyperscan.error:
        return None
    return database
