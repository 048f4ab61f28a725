r"""Undoing escapes: `\u0041`, `\x41`, `\/`, `%41`, `&#65;`. Each says one character, so a stream can undo them as they come."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from services.safety.canonical.view import Builder, Origin, View, whole


@dataclass(frozen=True, slots=True)
class Part:
    """What a stretch of a run says. Offsets count from the run's beginning."""

    start: int
    end: int
    text: str
    origin: Origin


RUNS = (
    r"(?P<escapes>(?:\\u\{[0-9A-Fa-f]{1,6}\}|\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}|\\x[0-9A-Fa-f]{2})+)"
    r"|(?P<slash>\\/)"
    r"|(?P<percent>(?:%[0-9A-Fa-f]{2})+)"
    r"|(?P<entity>&\#(?:[0-9]{1,7}|[xX][0-9A-Fa-f]{1,6});)"
)
"""Runs of escapes by their kinds."""

_RUN = re.compile(RUNS)
_ESCAPE = re.compile(r"\\u\{([0-9A-Fa-f]{1,6})\}|\\[uUx]([0-9A-Fa-f]{8}|[0-9A-Fa-f]{4}|[0-9A-Fa-f]{2})")
_BEGINS = re.compile(r"\\(?:[uUx/]|\Z)|%(?:[0-9A-Fa-f]|\Z)|&(?:#|\Z)")
# An escape cut short, half a surrogate pair, or a UTF-8 sequence cut short that is written byte by byte.
_OPEN = re.compile(
    r"(?:(?:\\u[dD][89abAB][0-9A-Fa-f]{2}|\\u\{[dD][89abAB][0-9A-Fa-f]{2}\})?"
    r"(?:\\(?:u(?:\{[0-9A-Fa-f]{0,6}|[0-9A-Fa-f]{0,3})?|U[0-9A-Fa-f]{0,7}|x[0-9A-Fa-f]?)?)?"
    r"|(?:%[cCdD].|%[eE].(?:%[89abAB].)?|%[fF].(?:%[89abAB].){0,2})?(?:%[0-9A-Fa-f]?)?"
    r"|&(?:#(?:[0-9]{0,7}|[xX][0-9A-Fa-f]{0,6}))?)\Z"
)
_LONGEST_OPEN = 24  # characters; eight of half a pair and nine of the other are the most
_LAST = 0x10FFFF
_SURROGATE = 0xDC00  # what `surrogateescape` puts before a byte that is not UTF-8


def may_begin(text: str) -> bool:
    """Whether an escape begins in `text`, though it may not end there."""
    return _BEGINS.search(text) is not None


def open_from(text: str) -> int:
    """Return where an escape begins that `text` does not end; its length if there is none."""
    found = _OPEN.search(text, max(len(text) - _LONGEST_OPEN, 0))
    return len(text) if found is None else found.start()


def unescaped(text: str) -> View | None:
    """Return the view of `text` with one layer of escapes undone; None if there is none."""
    builder, changed = Builder(text), False
    for found in _RUN.finditer(text):
        for part in KINDS[found.lastgroup or ""](found[0]):
            changed = True
            start = found.start() + part.start
            builder.put(start, found.start() + part.end, part.text, moved(part.origin, found.start()))
    return builder.view() if changed else None


def moved(origin: Origin, by: int) -> Origin:
    """Return `origin` for a run that begins at `by`."""

    def of(offset: int) -> tuple[int, int]:
        start, end = origin(offset)
        return start + by, end + by

    return of


def _escapes(run: str) -> Iterator[Part]:
    half: tuple[int, int] | None = None  # a high surrogate: its start and its value
    for found in _ESCAPE.finditer(run):
        code, start = int(found[1] or found[2], 16), found.start()
        if half and 0xDC00 <= code <= 0xDFFF:  # noqa: PLR2004 - low surrogates
            start, code = half[0], 0x10000 + ((half[1] - 0xD800) << 10) + code - 0xDC00
        half = (start, code) if 0xD800 <= code <= 0xDBFF else None  # noqa: PLR2004 - high surrogates
        if half is None and code <= _LAST:
            yield Part(start, found.end(), chr(code), whole(start, found.end()))


def _slash(run: str) -> Iterator[Part]:
    yield Part(0, len(run), "/", whole(0, len(run)))


def _entity(run: str) -> Iterator[Part]:
    number = run[2:-1]
    code = int(number[1:], 16) if number[0] in "xX" else int(number)
    if code <= _LAST:
        yield Part(0, len(run), chr(code), whole(0, len(run)))


def _percent(run: str) -> Iterator[Part]:
    """Read bytes as UTF-8, and one that is not as Latin-1: no byte changes what a distant one says."""
    data = bytes.fromhex(run.replace("%", ""))
    text = data.decode("utf-8", "surrogateescape")
    if len(text) == len(data):
        said = "".join(map(_latin, text))
        yield Part(0, len(run), said, lambda byte: (3 * byte, 3 * byte + 3))
        return
    at = 0
    for char in text:
        end = at + 3 * len(char.encode("utf-8", "surrogateescape"))
        yield Part(at, end, _latin(char), whole(at, end))
        at = end


def _latin(char: str) -> str:
    return chr(ord(char) - _SURROGATE) if "\udc80" <= char <= "\udcff" else char


KINDS = {"escapes": _escapes, "slash": _slash, "percent": _percent, "entity": _entity}
"""Kind of a run → what it says."""
