"""Letters written as others: rot13, and leetspeak, which writes digits and signs for letters. Offsets stay.

Of whole texts: each is a second reading of every word, which a stream would pay for with every event.
"""

from __future__ import annotations

import codecs
import string
from collections.abc import Iterator

import re2

from services.safety.canonical.view import Piece, View, shifted

_ROT13 = bytes.maketrans(string.ascii_letters.encode(), codecs.encode(string.ascii_letters, "rot13").encode())
_LEET = {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "@": "a", "$": "s"}
_ONES = ("i", "l")  # what 1, ! and | stand for; both in one phrase are not tried
_LEETS = tuple(
    bytes.maketrans("".join([*_LEET, "1!|"]).encode(), ("".join(_LEET.values()) + 3 * letter).encode())
    for letter in _ONES
)

MIXED = r"[A-Za-z][013457@$!|8]+[A-Za-z]|(?:^|[^0-9A-Za-z])[013457$8][A-Za-z]{2}"
"""A sign for a letter stands in a word or at its beginning."""


def gate(pattern: str) -> re2._Regexp:
    """Compile what every text is searched for, as bytes."""
    options = re2.Options()
    options.never_capture = True
    return re2.compile(pattern.encode(), options)


_MIXED = gate(MIXED)


def ciphers(text: str, parent: View | None = None, *, mixed: bool = True) -> Iterator[View]:
    """Yield the views of `text` with its letters read as those that they stand for.

    `mixed` says whether signs may stand for letters in it, where that is known.
    """
    data = text.encode("utf-8", "surrogatepass")  # other than ASCII stays: a table of bytes is quick
    yield _same(data.translate(_ROT13), parent)
    if mixed and _MIXED.search(data):
        readings = dict.fromkeys(data.translate(leet) for leet in _LEETS)
        yield from (_same(reading, parent) for reading in readings)


def _same(data: bytes, parent: View | None) -> View:
    return View(data.decode("utf-8", "surrogatepass"), [Piece(0, shifted(0))], parent)
