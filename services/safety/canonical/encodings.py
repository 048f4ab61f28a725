"""Undoing wrappings: escapes, hex and base64. One layer at a time, in place.

Escapes are undone wherever they stand. A run of hex or base64 is undone where it says readable text, at whichever of
its four alignments says most: a letter put in front does not hide it. What it says in other charsets, or compressed,
stays as it is.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import re2

from services.safety.canonical.escapes import KINDS, RUNS, Part, moved
from services.safety.canonical.view import Builder, Origin, View

_READABLE = 8  # characters that a run must say in a row; random bytes do so once in a thousand runs
_ENOUGH = 0.9  # of a run readable at one alignment: the others need not be tried

# ASCII text shows in its encodings: the high bit of each byte is zero, which leaves an eighth of all groups of four
# base64 digits and half of all pairs of hex digits. Long words and paths seldom fit.
_DIGITS = "[A-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/_-]"
_BYTE = "(?:[2-7][0-9A-Fa-f]|0[9AaDd])"
WRAPPED = (
    rf"\\(?:u\{{|u[0-9A-Fa-f]{{4}}|U[0-9A-Fa-f]{{8}}|x[0-9A-Fa-f]{{2}}|/)|%[0-9A-Fa-f][0-9A-Fa-f]|&#[0-9xX]|(?:{_DIGITS}){{3}}"
    rf"|{_BYTE}(?:[ :,-]{{0,2}}(?:0x)?{_BYTE}){{7}}"
)
"""Of ASCII: something may be an encoding."""
_GATE = re2.compile(WRAPPED.encode())
_WRAPPED = re.compile(
    RUNS + r"|(?P<hex>[0-9A-Fa-f]{2}(?:[ :,-]{0,2}(?:0x)?[0-9A-Fa-f]{2}){7,}(?![0-9A-Za-z+/_]))"
    r"|(?P<base64>(?:[A-Za-z0-9+/_-]{60,80}\r?\n)*[A-Za-z0-9+/_-]{12,})"
)
_STRETCH = re.compile(
    rb"(?:[\t\n\r\x20-\x7e]|[\xc3-\xdf][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}){%d,}"
    % _READABLE
)
_PAIR = re.compile(r"[0-9A-Fa-f]{2}")
_PAIRS = re.compile(r"(?:[0-9A-Fa-f]{2}){8,}")


def is_wrapped(text: str) -> bool:
    """Whether anything in `text` may be an encoding. Wrong in one direction only."""
    return _GATE.search(text.encode("utf-8", "replace")) is not None


def unwrapped(text: str, parent: View | None = None) -> View | None:
    """Return the view of `text` with one layer of encodings undone; None if there is none."""
    builder, changed = Builder(text), False
    for found in _WRAPPED.finditer(text):
        for part in _KINDS[found.lastgroup or ""](found[0]):
            changed = True
            start = found.start() + part.start
            builder.put(start, found.start() + part.end, part.text, moved(part.origin, found.start()))
    return builder.view(parent) if changed else None


def _hex(run: str) -> Iterator[Part]:
    pairs = [found.start() for found in _PAIR.finditer(run.replace("0x", "  "))]
    data = bytes(int(run[at : at + 2], 16) for at in pairs)
    yield from _stretches(data, lambda byte: (pairs[byte], pairs[byte] + 2))
    if run.isalnum() and not _STRETCH.search(data):
        yield from _base64(run)


def _base64(run: str) -> Iterator[Part]:
    places = [at for at, char in enumerate(run) if char not in "\r\n"] if "\n" in run else range(len(run))
    digits = run.translate(_URL_SAFE)
    readable, shift, data = max(_alignments(digits), key=lambda one: one[0])
    if not readable:
        yield from _hex_within(run)

    def origin(byte: int) -> tuple[int, int]:
        # A digit holds six bits: the digits that hold any bit of this byte.
        first, last = byte * 8 // 6 + shift, min((byte * 8 + 7) // 6 + shift, len(places) - 1)
        return places[first], places[last] + 1

    yield from _stretches(data, origin)


def _hex_within(run: str) -> Iterator[Part]:
    """Undo hex that letters or signs of base64 touch."""
    for found in _PAIRS.finditer(run):
        start = found.start() + len(found[0]) % 2
        data = bytes.fromhex(run[start : found.end()])
        yield from _stretches(data, lambda byte, start=start: (start + 2 * byte, start + 2 * byte + 2))  # type: ignore[misc]


_URL_SAFE = {ord("-"): "+", ord("_"): "/", ord("\r"): None, ord("\n"): None}


def _alignments(digits: str) -> Iterator[tuple[int, int, bytes]]:
    """Yield how many readable bytes a run says at each alignment, the alignment, and the bytes."""
    for shift in range(4):
        rest = digits[shift:]
        rest = rest[: len(rest) - (len(rest) % 4 == 1)]
        data = base64.b64decode(rest + "=" * (-len(rest) % 4))
        readable = sum(len(found[0]) for found in _STRETCH.finditer(data))
        yield readable, shift, data
        if readable > _ENOUGH * len(data):
            return


def _stretches(data: bytes, origin: Origin) -> Iterator[Part]:
    for found in _STRETCH.finditer(data):
        text = found[0].decode("utf-8", "replace")
        start, end = origin(found.start())[0], origin(found.end() - 1)[1]
        yield Part(start, end, text, _by_bytes(text, _from(origin, found.start()), found[0]))


def _by_bytes(text: str, origin: Origin, data: bytes) -> Origin:
    """Return the origin of the characters of `text`, given that of the bytes that spell it."""
    if len(text) == len(data):
        return origin

    def of(offset: int) -> tuple[int, int]:
        first = len(text[:offset].encode())
        return origin(first)[0], origin(max(first, first + len(text[offset].encode()) - 1))[1]

    return of


def _from(origin: Origin, first: int) -> Origin:
    return lambda offset: origin(first + offset)


_KINDS = {**KINDS, "hex": _hex, "base64": _base64}
