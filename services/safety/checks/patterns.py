r"""The regular expressions that a stream can hold back exactly, and the one thing re2 lacks: prefixes of a match.

A rule's pattern is written in a subset of re2's syntax: literals, escapes (`\d \w \s \n` and escaped signs), classes,
`.`, `(?:…)`, `|`, the quantifiers `? * + {m} {m,} {m,n}`, also lazy, and `\b`. From it `prefix` derives a pattern
that matches every prefix of every match. Anchored at the end of what a stream has said so far, its leftmost match
begins where the first live partial match begins: what stands before cannot be part of any match to come. re2 runs it
backwards from the end in linear time and stops at the first character that no match can hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass


class PatternError(ValueError):
    """The pattern is outside the subset."""


@dataclass(frozen=True, slots=True)
class Char:
    """One character: a literal, an escape, a class or `.`."""

    source: str


@dataclass(frozen=True, slots=True)
class Boundary:
    r"""`\b`: needs to know the next character, so at the end of a stream's text it is undecided."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`low` to `high` times; `high` None is without end."""

    item: Node
    low: int
    high: int | None
    source: str


Node = Char | Boundary | Sequence | Choice | Repeat


def parse(pattern: str) -> Node:
    """Read a pattern of the subset; raise `PatternError` that says what is not in it."""
    parser = _Parser(pattern)
    node = parser.choice()
    if parser.rest:
        raise PatternError(
            f"{parser.rest[0]!r} is not expected at position {len(pattern) - len(parser.rest)}"
        )
    return node


def longest(node: Node) -> int | None:
    """Return the characters of the longest match, None if there is no longest."""
    match node:
        case Char():
            return 1
        case Boundary():
            return 0
        case Sequence(items):
            return _total(longest(item) for item in items)
        case Choice(options):
            lengths = [longest(option) for option in options]
            return None if None in lengths else max(length for length in lengths if length is not None)
        case Repeat(item, high=high):
            length = longest(item)
            return None if length is None or high is None else length * high


def emit(node: Node) -> str:
    """Return the node as a pattern again."""
    match node:
        case Char(source):
            return source
        case Boundary():
            return r"\b"
        case Sequence(items):
            return "".join(emit(item) for item in items)
        case Choice(options):
            return f"(?:{'|'.join(emit(option) for option in options)})"
        case Repeat(item, source=source):
            return _group(item) + source


def prefix(node: Node) -> str:
    """Return a pattern that matches every prefix of every match of `node`, the empty and the whole one included."""
    match node:
        case Char(source):
            return source + "?"
        case Boundary():
            return ""
        case Sequence(items):
            return _prefix_sequence(items)
        case Choice(options):
            return f"(?:{'|'.join(prefix(option) for option in options)})"
        case Repeat(item, high=high) if isinstance(item, Char):
            return item.source + ("*" if high is None else f"{{0,{high}}}")
        case Repeat(item, high=high):
            before = "*" if high is None else f"{{0,{max(high - 1, 0)}}}"
            return _group(item) + before + prefix(item)


def relaxed(node: Node) -> str:
    """Return a pattern that matches wherever `node` does, and elsewhere: repeats have no upper bound.

    To count to a bound takes an automaton a state for each number; without, a sieve of many rules stays small.
    """
    match node:
        case Sequence(items):
            return "".join(map(relaxed, items))
        case Choice(options):
            return f"(?:{'|'.join(map(relaxed, options))})"
        case Repeat(item, low, high):
            inside = item.source if isinstance(item, Char) else f"(?:{relaxed(item)})"
            return inside + ("?" if high == 1 and not low else _AT_LEAST.get(low, f"{{{low},}}"))
        case _:
            return emit(node)


_AT_LEAST = {0: "*", 1: "+"}


def possible(node: Node, allowed: Callable[[str], bool]) -> bool:
    """Return whether `node` can match with such characters alone whose source is `allowed`."""
    match node:
        case Char(source):
            return allowed(source)
        case Boundary():
            return True
        case Sequence(items):
            return all(possible(item, allowed) for item in items)
        case Choice(options):
            return any(possible(option, allowed) for option in options)
        case Repeat(item, low):
            return not low or possible(item, allowed)


def _prefix_sequence(items: tuple[Node, ...]) -> str:
    pattern = ""
    for item in reversed(items):
        if isinstance(item, Char | Boundary):
            pattern = f"(?:{emit(item)}{pattern})?"
        elif not pattern:
            pattern = prefix(item)
        else:
            pattern = f"(?:{emit(item)}{pattern}|{prefix(item)})"
    return pattern


def _group(node: Node) -> str:
    return node.source if isinstance(node, Char) else f"(?:{emit(node)})"


def _total(lengths: Iterable[int | None]) -> int | None:
    total = 0
    for length in lengths:
        if length is None:
            return None
        total += length
    return total


_CLASS = re.compile(r"\[\^?\]?(?:[^\]\\\[]|\\[dDwWsSnrt\W]|\[(?!:))*\]", re.ASCII)
_ESCAPE = re.compile(r"\\(?:[dDwWsSnrtf]|x[0-9A-Fa-f]{2}|[^0-9A-Za-z])", re.ASCII)
_QUANTIFIER = re.compile(r"(?:(?P<sign>[?*+])|\{(?P<low>\d+)(?P<comma>,)?(?P<high>\d+)?\})\??")
_LIMITS: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}
_SIGNS = "()[]{}?*+|^$\\"


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.rest = pattern

    def choice(self) -> Node:
        options = [self._sequence()]
        while self._take("|"):
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        items: list[Node] = []
        while self.rest and self.rest[0] not in "|)":
            items.append(self._repeat(self._atom()))
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _repeat(self, item: Node) -> Node:
        found = _QUANTIFIER.match(self.rest)
        if found is None:
            return item
        if isinstance(item, Boundary):
            raise PatternError(r"\b cannot be repeated")
        self.rest = self.rest[found.end() :]
        if found["sign"]:
            return Repeat(item, *_LIMITS[found["sign"]], found[0])
        low = int(found["low"])
        high = int(found["high"]) if found["high"] else None if found["comma"] else low
        return Repeat(item, low, high, found[0])

    def _atom(self) -> Node:
        if self._take("(?:"):
            node = self.choice()
            if not self._take(")"):
                raise PatternError("a group is not closed")
            return node
        if self._take(r"\b"):
            return Boundary()
        for part in (_CLASS, _ESCAPE):
            if found := part.match(self.rest):
                self.rest = self.rest[found.end() :]
                return Char(found[0])
        if self.rest[0] in _SIGNS:
            raise PatternError(f"{self.rest[:4]!r} is not in the subset that a stream can hold back")
        char, self.rest = self.rest[0], self.rest[1:]
        return Char(char)

    def _take(self, token: str) -> bool:
        if not self.rest.startswith(token):
            return False
        self.rest = self.rest[len(token) :]
        return True
