"""Letters written as others: rot13, and leetspeak, which writes digits and signs for letters. Offsets stay.

Of whole texts: each is a second reading of every word, which a stream would pay for with every event.
"""

from __future__ import annotations

import codecs
import string
from collections.abc import Iterator

import re2

from services.safety.canonical.view import Piece, View, shifted

_ROT13 = str.maketrans(string.ascii_letters, codecs.encode(string.ascii_letters, "rot13"))
_LEET = {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "@": "a", "$": "s"}
_ONES = ("i", "l")  # what 1, ! and | stand for; both in one phrase are not tried
_LEETS = tuple(str.maketrans(_LEET | dict.fromkeys("1!|", letter)) for letter in _ONES)


def _gate() -> re2._Regexp:
    options = re2.Options()
    options.never_capture = True
    return re2.compile(rb"[A-Za-z][013457@$!|8]+[A-Za-z]|(?:^|[^0-9A-Za-z])[013457$8][A-Za-z]{2}", options)


_MIXED = _gate()
"""A sign for a letter stands in a word or at its beginning."""


def ciphers(text: str, parent: View | None = None) -> Iterator[View]:
    """Yield the views of `text` with its letters read as those that they stand for."""
    yield _same(text.translate(_ROT13), parent)
    if _MIXED.search(text.encode("utf-8", "replace")):
        readings = dict.fromkeys(text.translate(leet) for leet in _LEETS)
        yield from (_same(reading, parent) for reading in readings)


def _same(text: str, parent: View | None) -> View:
    return View(text, [Piece(0, shifted(0))], parent)
