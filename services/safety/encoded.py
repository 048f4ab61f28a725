"""Compressed bodies: read within limits, and packed again where something was changed.

gzip and deflate, as Python has them. Brotli and zstd are not read: what carries them is unscannable, as the policy says.
"""

from __future__ import annotations

import gzip
import zlib

LIMIT = 32 * 1024 * 1024  # bytes after decompression: as long as the longest body that comes as it is
_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class TooLarge(ValueError):
    """It would be larger than the limit."""


def is_readable(encoding: str) -> bool:
    """Whether a body of this `Content-Encoding` can be read: one coding that is known."""
    return encoding in _WINDOWS


def unpack(body: bytes, encoding: str, limit: int = LIMIT) -> bytes:
    """Return `body` as it was before it was compressed.

    Raises `TooLarge`, and `ValueError` for what is not of this coding, cut short or followed by something else.
    """
    try:
        return _inflate(body, _WINDOWS[encoding], limit)
    except zlib.error as error:
        if encoding != "deflate":
            raise ValueError(str(error)) from error
    try:
        return _inflate(
            body, -zlib.MAX_WBITS, limit
        )  # what some clients take for deflate: without zlib's header
    except zlib.error as error:
        raise ValueError(str(error)) from error


def pack(body: bytes, encoding: str) -> bytes:
    """Return `body` compressed; the same bytes each time."""
    return zlib.compress(body) if encoding == "deflate" else gzip.compress(body, compresslevel=6, mtime=0)


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    engine = zlib.decompressobj(window)
    data = engine.decompress(body, limit)
    if engine.unconsumed_tail:
        raise TooLarge(f"more than {limit} bytes")
    if not engine.eof or engine.unused_data:
        raise ValueError("cut short, or followed by something else")
    return data
