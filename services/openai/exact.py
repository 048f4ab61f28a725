"""Exact prefixes: a prompt as chained hashes of its token blocks, to be compared with what servers say they hold.

Scheme 1. Block i of `block_size` token ids is hashed as xxh3_64(ids, 8 bytes each, little-endian; then what else the
server's key of the block depends on; seed=hash of block i-1), the first with a seed from scheme and LoRA adapter. The
servers' own hashes play no part: they differ between versions, algorithms and seeds of the process. Of a long prompt
only some of the hashes travel, those at the block counts of `DEPTHS`, so that their number grows with the logarithm as
that of the digest's blocks does. The last token is left out: a server computes it anyway.
"""

from __future__ import annotations

import base64
import bisect
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import xxhash

from services.openai.digest import BOUNDARIES, FIRST_BLOCK

SCHEME = 1
KEY = "tokens"
"""The key of the encoded hashes in the digest's metadata namespace."""
TOKEN = 8  # bytes of an id when hashed

DEPTHS: tuple[int, ...] = tuple(end // FIRST_BLOCK for end in BOUNDARIES)
"""`DEPTHS[i]` is how many token blocks hash i stands for: 64 steps of one, 64 of two, and so on."""


class ExactError(ValueError):
    """The text holds no exact hashes of a scheme that this version knows."""


@dataclass(frozen=True, slots=True)
class Exact:
    """The beginning of a prompt, or all of it, in tokens."""

    block_size: int
    """Tokens in a block; hashes say nothing about servers with blocks of another size."""
    tokens: int
    """How many are covered; complete blocks or not."""
    prompt_bytes: int
    """How many of the digest's prompt bytes they stand for, from the first on."""
    hashes: tuple[int, ...] = ()
    """Hash i is that of the first `DEPTHS[i]` blocks."""


def root(adapter: str = "") -> int:
    """Return what the first block's hash is chained to."""
    return xxhash.xxh3_64_intdigest(f"{SCHEME}\0{adapter}".encode())


def pack(ids: Sequence[int]) -> bytes:
    """Return token ids as they are hashed, `TOKEN` bytes each. Raises `struct.error` for what is no id."""
    return struct.pack(f"<{len(ids)}Q", *ids)


def chained(parent: int, packed: bytes | memoryview, extra: bytes = b"") -> int:
    """Return the hash of a block whose predecessor has the hash `parent`."""
    return xxhash.xxh3_64_intdigest(bytes(packed) + extra if extra else packed, seed=parent)


def salted(cache_salt: str) -> bytes:
    """Return what a first block's hash depends on besides its tokens, as vLLM's events list it (`extra_keys`)."""
    return msgspec.msgpack.encode([cache_salt]) if cache_salt else b""


def exact_of(
    ids: Sequence[int], *, block_size: int, prompt_bytes: int, adapter: str = "", cache_salt: str = ""
) -> Exact:
    """Return the hashes of a prompt that is all of `ids`, and `prompt_bytes` long in its digest."""
    count = max(0, len(ids) - 1) // block_size
    view, width = memoryview(pack(ids[: count * block_size])), block_size * TOKEN
    parent, extra, hashes, wanted = root(adapter), salted(cache_salt), [], 0
    for block in range(count):
        parent = chained(parent, view[block * width : (block + 1) * width], extra)
        extra = b""
        if block + 1 == DEPTHS[wanted]:
            hashes.append(parent)
            wanted += 1
    return Exact(block_size, len(ids), prompt_bytes, tuple(hashes))


def common(one: Exact, other: Exact, prompt_bytes: int) -> Exact:
    """Return the beginning that two prompts share, of which their digests share `prompt_bytes`."""
    pairs = zip(one.hashes, other.hashes, strict=False)
    shared = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one.hashes), len(other.hashes)))
    tokens = DEPTHS[shared - 1] * one.block_size if shared else 0
    return Exact(one.block_size, tokens, prompt_bytes, one.hashes[:shared])


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    scheme: int
    block_size: Annotated[int, msgspec.Meta(ge=1)]
    tokens: Annotated[int, msgspec.Meta(ge=0)]
    prompt_bytes: Annotated[int, msgspec.Meta(ge=0)]
    hashes: bytes


def encode(exact: Exact) -> str:
    """Return `exact` as text for a metadata value: base64 of a msgpack array that begins with the scheme."""
    hashes = struct.pack(f"<{len(exact.hashes)}Q", *exact.hashes)
    wire = _Wire(SCHEME, exact.block_size, exact.tokens, exact.prompt_bytes, hashes)
    return base64.b64encode(msgspec.msgpack.encode(wire)).decode("ascii")


def decode(text: str) -> Exact:
    """Read what `encode` wrote; raise `ExactError` for anything else, other schemes included."""
    try:
        wire = _DECODER.decode(base64.b64decode(text, validate=True))
        hashes = struct.unpack(f"<{len(wire.hashes) // TOKEN}Q", wire.hashes)
    except (ValueError, msgspec.MsgspecError, struct.error) as error:
        raise ExactError(f"no exact hashes: {error}") from error
    if wire.scheme != SCHEME:
        raise ExactError(f"scheme {wire.scheme}, expected {SCHEME}")
    if len(hashes) > bisect.bisect_right(DEPTHS, wire.tokens // wire.block_size):
        raise ExactError(f"{len(hashes)} hashes of {wire.tokens} tokens")
    return Exact(wire.block_size, wire.tokens, wire.prompt_bytes, hashes)


_DECODER = msgspec.msgpack.Decoder(_Wire)
