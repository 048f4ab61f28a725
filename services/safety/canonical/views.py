"""Which views of a text there are: folded, with hidden characters read out, each layer of encodings undone, deciphered."""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.safety.canonical.characters import changes, wide
from services.safety.canonical.ciphers import MIXED, ciphers, gate
from services.safety.canonical.encodings import WRAPPED, is_wrapped, unwrapped
from services.safety.canonical.escapes import unescaped
from services.safety.canonical.view import Builder, View, folded, folded_by, whole

DEPTH = 4  # layers: base64 in a URL in a JSON string in JSON is four; each costs a pass over the text

_HIDDEN = re.compile(
    "(?P<tags>[\U000e0020-\U000e007e]+)|(?P<selectors>[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,})"
)
_MAY_HIDE = re.compile("[\ufe00-\ufe0f\U000e0020-\U000e01ef]")
_FIRST, _SUPPLEMENT = 0xFE00, 0xE0100  # variation selectors 1 and 17
_TAG = 0xE0000  # a tag character is this above the ASCII character it hides


def readings(text: str) -> Iterator[View]:
    """Yield all views of a whole text: what it holds, and what its letters stand for."""
    if text.isascii():
        more = _MORE.search(text.encode()) is not None
        if more and is_wrapped(text):
            yield from _layers(None, text, DEPTH)
        yield from ciphers(text, mixed=more)
        return
    flat = _folded(text, None)
    yield from _wide_views(text, flat, DEPTH)
    yield from ciphers(text if flat is None else flat.text, flat)


_MORE = gate(f"{WRAPPED}|{MIXED}")
"""All that a whole ASCII text can say besides itself and its rot13, asked at once."""


def followed(text: str) -> View:
    """Return the view of a piece of a text that depends on no other piece: escapes undone, characters folded."""
    inner = unescaped(text)
    return folded(text) if inner is None else folded(inner.text, inner)


def views(text: str, depth: int = DEPTH) -> Iterator[View]:
    """Yield the views of `text` that say something else than the text itself."""
    if text.isascii():
        return _layers(None, text, depth)
    return _wide_views(text, _folded(text, None), depth)


def _wide_views(text: str, flat: View | None, depth: int) -> Iterator[View]:
    found = [view for view in (flat, _revealed(text)) if view]
    yield from found
    # What one reading has already said needs no second one: the folded text stands for the original.
    if not found:
        yield from _layers(None, text, depth)
    for view in found:
        yield from _layers(view, view.text, depth)


def _layers(view: View | None, text: str, depth: int) -> Iterator[View]:
    for _ in range(depth):
        if not is_wrapped(text) or (inner := unwrapped(text, view)) is None:
            return
        view, text = inner, inner.text
        if flat := _folded(text, view):
            view, text = flat, flat.text
        yield view


def _folded(text: str, parent: View | None) -> View | None:
    known = {} if text.isascii() else changes(text)
    return folded_by(text, known, parent) if known else None


def _revealed(text: str) -> View | None:
    """Return what tag characters and runs of variation selectors say: text that nobody sees."""
    if not _MAY_HIDE.search(wide(text)):
        return None
    builder, changed = Builder(text), False
    for found in _HIDDEN.finditer(text):
        said = _tags(found[0]) if found["tags"] else _selectors(found[0])
        if said:
            changed = True
            builder.put(*found.span(), said, whole(*found.span()))
    if not changed:
        return None
    view = builder.view()
    return _folded(view.text, view) or view


def _tags(run: str) -> str:
    return "".join(chr(ord(char) - _TAG) for char in run)


def _selectors(run: str) -> str:
    """Read a byte from each selector: the first sixteen stand for 0 to 15, the supplement for the rest."""
    codes = [ord(char) for char in run]
    data = bytes(code - _FIRST if code < _SUPPLEMENT else code - _SUPPLEMENT + 16 for code in codes)
    return data.decode("utf-8", "ignore")
