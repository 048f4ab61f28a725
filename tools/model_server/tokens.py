"""Tokens without a tokenizer: every four bytes are one token.

Cuts depend on the position alone, so equal byte prefixes have equal token prefixes, and counting costs nothing. An id
holds its bytes: `1 << 32 | value` for four, so that ids can be turned back into text without a vocabulary.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

import xxhash

BYTES_PER_TOKEN = 4
_MARK = 1 << 32


def count(text: bytes) -> int:
    """Return how many tokens `text` is."""
    return -(-len(text) // BYTES_PER_TOKEN)


def pieces(text: str) -> int:
    """Return how many decode steps produce `text`, at least one. A step's piece is four characters: none is split."""
    return max(1, -(-len(text) // BYTES_PER_TOKEN))


def piece(text: str, index: int) -> str:
    """Return what decode step `index` of an answer produces."""
    return text[index * BYTES_PER_TOKEN : (index + 1) * BYTES_PER_TOKEN]


def encode(text: bytes) -> list[int]:
    """Return the ids of `text`."""
    whole = len(text) // BYTES_PER_TOKEN
    ids = [_MARK | value for value in struct.unpack(f">{whole}I", text[: whole * BYTES_PER_TOKEN])]
    if tail := text[whole * BYTES_PER_TOKEN :]:
        ids.append(int.from_bytes(b"\1" + tail, "big"))
    return ids


def decode(ids: Sequence[int]) -> bytes:
    """Return the text of ids from `encode`. Foreign ids become some bytes, never an error."""
    return b"".join(map(_piece, ids))


def pack(ids: Sequence[int]) -> bytes:
    """Return four bytes per id: the text itself where `encode` made them, so that both find the same cache."""
    return struct.pack(f">{len(ids)}I", *(i & 0xFFFFFFFF for i in ids))


def block_hashes(text: bytes, *, block_size: int, seed: str) -> list[int]:
    """Return the chained hashes of the complete blocks of `block_size` tokens. `seed` names weights and cache salt."""
    width = block_size * BYTES_PER_TOKEN
    digest, view = xxhash.xxh3_64_intdigest, memoryview(text)
    parent, hashes = digest(seed.encode()), []
    for start in range(0, len(text) - width + 1, width):
        parent = digest(view[start : start + width], seed=parent)
        hashes.append(parent)
    return hashes


def _piece(token: int) -> bytes:
    length = (max(token, 1).bit_length() - 1) // 8
    return (token & ((1 << 8 * length) - 1)).to_bytes(length, "big")


class Tokenizer(Protocol):
    """How a server counts and cuts."""

    def count(self, text: bytes) -> int:
        """Return how many tokens a prompt is."""

    def encode(self, text: bytes) -> list[int]:
        """Return its ids."""

    def cached(self, prompt: bytes, answer: bytes) -> bytes:
        """Return what the cache can find again of both, `BYTES_PER_TOKEN` for each token."""

    def ids(self, cached: bytes) -> list[int]:
        """Return the ids of what `cached` gave."""


class FourBytes:
    """The functions of this module."""

    def count(self, text: bytes) -> int:
        """Return how many tokens a prompt is."""
        return count(text)

    def encode(self, text: bytes) -> list[int]:
        """Return its ids."""
        return encode(text)

    def cached(self, prompt: bytes, answer: bytes) -> bytes:
        """Return the text: tokens are cut from it anywhere."""
        return prompt + answer

    def ids(self, cached: bytes) -> list[int]:
        """Return the ids of what `cached` gave."""
        return encode(cached)


class FileTokenizer:
    """A `tokenizer.json`. Answers stay pieces of four characters, which no vocabulary has: only prompts are cached."""

    def __init__(self, path: str) -> None:
        # An extra: only who names a file has it.
        from tokenizers import Tokenizer as Vocabulary  # noqa: PLC0415

        self._vocabulary = Vocabulary.from_file(path)

    def count(self, text: bytes) -> int:
        """Return how many tokens a prompt is."""
        return len(self.encode(text))

    def encode(self, text: bytes) -> list[int]:
        """Return its ids."""
        return list(self._vocabulary.encode(text.decode(errors="replace")).ids)

    def cached(self, prompt: bytes, answer: bytes) -> bytes:
        """Return the prompt's ids."""
        del answer
        return pack(self.encode(prompt))

    def ids(self, cached: bytes) -> list[int]:
        """Return the ids of what `cached` gave."""
        return list(struct.unpack(f">{len(cached) // BYTES_PER_TOKEN}I", cached))
