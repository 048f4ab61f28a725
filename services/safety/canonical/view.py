"""A text made of another, and where each of its characters came from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from services.safety.canonical.characters import changes, folded_with

Span = tuple[int, int]
"""Start and end."""
Origin = Callable[[int], Span]
"""Offset in a piece → the span of the text before that says this character."""


class Piece(NamedTuple):
    """A stretch of a view that comes of one stretch of the text before."""

    at: int
    """Its offset in the view."""
    origin: Origin


class View:
    """A text that stands for `parent`, which is the original or a view itself."""

    __slots__ = ("_at", "_parent", "_pieces", "text")

    def __init__(self, text: str, pieces: list[Piece], parent: View | None = None) -> None:
        self.text = text
        self._pieces = pieces
        self._at = [piece.at for piece in pieces]
        self._parent = parent

    def origin(self, start: int, end: int) -> Span:
        """Return the original's span that says `text[start:end]`. No character that only half belongs to it is spared."""
        first, last = self._of(start)[0], self._of(max(end - 1, start))[1]
        return self._parent.origin(first, last) if self._parent else (first, last)

    def _of(self, offset: int) -> Span:
        piece = self._pieces[bisect_right(self._at, offset) - 1]
        return piece.origin(offset - piece.at)


class Builder:
    """Makes a view from left to right out of copies and replacements."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._read = 0
        self._written = 0
        self._out: list[str] = []
        self._pieces: list[Piece] = []

    def put(self, start: int, end: int, text: str, origin: Origin) -> None:
        """Let `text` stand for the source's `start` to `end`, after a copy of what comes before."""
        self._copy(start)
        if text:
            self._add(text, origin)
        self._read = end

    def view(self, parent: View | None = None) -> View:
        """Return the view; what was not replaced is copied."""
        self._copy(len(self._source))
        return View("".join(self._out), self._pieces or [Piece(0, shifted(0))], parent)

    def _copy(self, end: int) -> None:
        if end > self._read:
            self._add(self._source[self._read : end], shifted(self._read))

    def _add(self, text: str, origin: Origin) -> None:
        self._pieces.append(Piece(self._written, origin))
        self._out.append(text)
        self._written += len(text)


def shifted(start: int) -> Origin:
    """Return the origin of a copy that began at `start`."""
    return lambda offset: (start + offset, start + offset + 1)


def whole(start: int, end: int) -> Origin:
    """Return the origin of characters that all come of the same span."""
    return lambda _offset: (start, end)


def folded(text: str, parent: View | None = None) -> View:
    """Return the view of `text` with its characters folded."""
    return folded_by(text, {} if text.isascii() else changes(text), parent)


def folded_by(text: str, known: dict[str, str], parent: View | None = None) -> View:
    """Return the view of `text` with its characters folded; `known` are its `changes`."""
    out, places = folded_with(text, known)
    pieces, grown = [Piece(0, shifted(0))], 0  # by how much the view is longer than the text so far
    for at, size in places:
        if size:
            pieces.append(Piece(at + grown, whole(at, at + 1)))
        grown += size - 1
        pieces.append(Piece(at + 1 + grown, shifted(at + 1)))
    return View(out, pieces, parent)
