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
    return text if text.isascii() else _replaced(text, changes(text))


def changes(text: str) -> dict[str, str]:
    """Return what folding does to the characters of `text`: those that it changes, and what they become."""
    folds = _folds()
    found = {char: folds[ord(char)] for char in set(wide(text))}
    return {char: folded for char, folded in found.items() if folded != char}


def wide(text: str) -> str:
    """Return the characters of `text` outside ASCII, in order."""
    return text.encode("utf-8", "surrogatepass").translate(None, _ASCII).decode("utf-8", "surrogatepass")


def folded_with(text: str, known: dict[str, str]) -> tuple[str, list[Resized]]:
    """Return `text` folded, and its characters that folding removes or expands, in order. `known` are its `changes`."""
    sizes = {char: len(folded) for char, folded in known.items() if len(folded) != 1}
    places = [Resized(at, size) for char, size in sizes.items() for at in _places(text, char)]
    return _replaced(text, known), sorted(places)


_ASCII = bytes(range(128))
_FEW = 16  # characters replaced one after the other, each at the speed of a copy; a table asks for every character


def _replaced(text: str, known: dict[str, str]) -> str:
    if len(known) > _FEW or not all(map(str.isascii, known.values())):  # what one becomes, another may change
        return _WIDE.sub(_fold_run, text) if known else text
    for char, folded in known.items():
        text = text.replace(char, folded)
    return text


def _places(text: str, char: str) -> Iterator[int]:
    at = text.find(char)
    while at >= 0:
        yield at
        at = text.find(char, at + 1)


_WIDE = re.compile("[^\x00-\x7f]+")


def _fold_run(run: re.Match[str]) -> str:
    return run[0].translate(_folds())


class _Table(dict[int, str]):
    """A table for `str.translate` that fills itself, up to a bound."""

    def __missing__(self, code: int) -> str:
        value = fold_character(chr(code))
        if len(self) < _KNOWN:
            self[code] = value
        return value


@functools.cache
def _folds() -> _Table:
    return _Table()
