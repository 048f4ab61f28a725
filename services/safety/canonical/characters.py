"""Folding of single characters: what no neighbour changes, so that a stream can do it piece by piece.

A character becomes its compatibility form (NFKD) without the marks of Latin, Greek and Cyrillic letters, composed
again (NFC); look-alikes become ASCII, digits of every script too, and what is invisible becomes nothing. It is coarser
than NFKC: `é` written as one character, as two, or as `e` is the same here. Marks that spell in other scripts (kana,
Indic vowels) stay.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from services.safety.canonical.confusables import CONFUSABLES

INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
)
"""Of a character class: what Unicode calls default-ignorable (zero width, joiners, bidi controls, fillers, variation
selectors, tags), and the empty Braille pattern."""

_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_MARK = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
_KNOWN = 65_536  # characters whose folding is kept; no text of a natural language comes near


def fold_character(char: str) -> str:
    """Return what stands for `char` in the canonical view: mostly one character, none for an invisible one."""
    if _INVISIBLE.match(char):
        return ""
    if (digit := unicodedata.decimal(char, None)) is not None:
        return str(digit)
    parts = unicodedata.normalize("NFKD", char)
    return unicodedata.normalize("NFC", _MARK.sub("", parts)).translate(CONFUSABLES)


class Resized(NamedTuple):
    """A character that does not become exactly one: where it stands, and how many it becomes."""

    at: int
    size: int


def fold(text: str) -> str:
    """Return `text` folded. ASCII comes back as it is."""
    return text if text.isascii() else _WIDE.sub(_fold_run, text)


def resized(text: str) -> Iterator[Resized]:
    """Yield the characters of `text` that folding removes or expands, in order. Without any, offsets stay."""
    for run in _WIDE.finditer(text):
        sizes = run[0].translate(_sizes())
        for found in _NOT_ONE.finditer(sizes):
            yield Resized(run.start() + found.start(), ord(found[0]))


_WIDE = re.compile("[^\x00-\x7f]+")
_NOT_ONE = re.compile("[^\x01]")


def _fold_run(run: re.Match[str]) -> str:
    return run[0].translate(_folds())


class _Table(dict[int, str]):
    """A table for `str.translate` that fills itself, up to a bound."""

    def __missing__(self, code: int) -> str:
        value = self._value(fold_character(chr(code)))
        if len(self) < _KNOWN:
            self[code] = value
        return value

    def _value(self, folded: str) -> str:
        return folded


class _SizeTable(_Table):
    def _value(self, folded: str) -> str:
        return chr(len(folded))  # no character becomes more than 18


@functools.cache
def _folds() -> _Table:
    return _Table()


@functools.cache
def _sizes() -> _SizeTable:
    return _SizeTable()
