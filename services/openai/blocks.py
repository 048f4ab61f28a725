"""The hashes of a prompt's blocks, kept as they travel: who only compares and stores them never makes numbers of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import overload

WIDTH = 8
"""Bytes of one hash."""


class Blocks(Sequence[int]):
    """64-bit hashes, first to last, as little-endian bytes; equal to any sequence of the same numbers."""

    __slots__ = ("packed",)

    def __init__(self, packed: bytes = b"") -> None:
        """Take bytes in; raise `ValueError` when they are no whole hashes."""
        if len(packed) % WIDTH:
            raise ValueError(f"{len(packed)} bytes are no whole hashes of {WIDTH}")
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed) // WIDTH

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> Blocks: ...
    def __getitem__(self, at: int | slice) -> int | Blocks:
        if isinstance(at, int):
            place = range(0, len(self.packed), WIDTH)[at]
            return int.from_bytes(self.packed[place : place + WIDTH], "little")
        start, stop, step = at.indices(len(self))
        if step != 1:
            return Blocks(pack(tuple(self)[at]))
        return Blocks(self.packed[WIDTH * start : WIDTH * stop])

    def __iter__(self) -> Iterator[int]:
        return iter(struct.unpack(f"<{len(self)}Q", self.packed))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Blocks):
            return self.packed == other.packed
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Blocks({list(self)})"


def pack(blocks: Sequence[int]) -> bytes:
    """Return hashes as bytes, eight for each."""
    return blocks.packed if isinstance(blocks, Blocks) else struct.pack(f"<{len(blocks)}Q", *blocks)
