"""A rule ready to run: compiled by re2, with what a sieve and a stream need of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import re2

from services.safety.checks import patterns
from services.safety.checks.rules import WORD_START, Rule, RuleError
from services.safety.checks.validators import Validator

_MEMORY = 64 * 1024 * 1024  # bytes re2 may use for one pattern; a blocklist of `MAX_WORDS` runs in it
_ASCII = bytes(range(128))


class Compiled:
    """A rule with its pattern and validator."""

    __slots__ = ("keywords", "needs_wide", "node", "pattern", "relaxed", "rule", "validator")

    def __init__(self, rule: Rule, validators: Mapping[str, Validator]) -> None:
        try:
            self.node = patterns.parse(rule.pattern)
            start = patterns.parse(WORD_START if rule.word_start else "")
            self.pattern = any_of([flagged(rule, _source(rule, rule.pattern))])
        except (patterns.PatternError, re2.error) as error:
            raise RuleError(f"rule {rule.id!r}: {error}") from error
        if (length := patterns.longest(patterns.Sequence((start, self.node)))) != rule.max_length:
            raise RuleError(f"rule {rule.id!r}: max_length is {rule.max_length}, expected {length}")
        if rule.validator is not None and rule.validator not in validators:
            raise RuleError(
                f"rule {rule.id!r}: no validator {rule.validator!r}, there are {', '.join(validators)}"
            )
        self.rule = rule
        self.validator = validators[rule.validator] if rule.validator else None
        self.relaxed = _source(rule, patterns.relaxed(self.node))
        """Matches wherever the rule does, and is cheaper to run together with others. Without the rule's flags."""
        self.keywords = tuple(keyword.casefold().encode() for keyword in rule.keywords)
        self.needs_wide = not patterns.possible(self.node, _is_ascii)
        """Whether every match has a character outside ASCII."""


def flagged(rule: Rule, pattern: str) -> str:
    """Return `pattern` with the rule's flags, as a group."""
    return f"(?i:{pattern})" if rule.ignore_case else f"(?:{pattern})"


def any_of(sources: Iterable[str], *, after: str = "") -> re2._Regexp:
    """Compile the alternation of `sources`, with `after` behind them."""
    options = re2.Options()
    options.max_mem = _MEMORY
    options.never_capture = True
    options.log_errors = False
    return re2.compile(f"(?:{'|'.join(sources)}){after}", options)


def _source(rule: Rule, pattern: str) -> str:
    return f"{WORD_START}(?:{pattern})" if rule.word_start else pattern


def _is_ascii(source: str) -> bool:
    """Whether the character can be in ASCII, in any case: there are others that fold to it."""
    if len(source) == 1:
        return source.isascii() or source.casefold().isascii()
    return re2.search(f"(?i:{source})".encode(), _ASCII) is not None
