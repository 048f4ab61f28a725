"""The request digest: what a scheduler needs of a prompt, small enough to travel as metadata.

Scheme 1. The prompt is the byte string of the fields that a chat template puts before the answer, in the order of
`peek.Peek.prompt`. It is cut at fixed positions: `BLOCKS_PER_LEVEL` blocks of `FIRST_BLOCK` bytes, then as many of
twice that size, and so on. Cuts depend on the position alone, so a conversation that grows keeps every hash it had,
and the number of blocks grows with the logarithm of the prompt: 138 for 15 KB, 418 for 400 KB, 762 for 16 MB.
Block i is hashed as xxh3_64(bytes, seed=hash of block i-1), the first with a seed from scheme, model and cache salt:
equal hashes mean equal prefixes for equal weights. The incomplete tail is not hashed.
"""

from __future__ import annotations

import base64
import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import xxhash

from services.openai.blocks import Blocks, pack
from services.openai.peek import Peek

SCHEME = 1
FIRST_BLOCK = 64  # bytes; about 16 tokens, the block size of vLLM's prefix cache
BLOCKS_PER_LEVEL = 64
MAX_LEVELS = 20  # 64 x 64 B x (2^20 - 1): four gigabytes, past every body limit
BYTES_PER_TOKEN = 4  # the usual estimate for English text; JSON punctuation included
MEDIA = b";base64,"  # how a data URL begins, whatever it holds
PROBE, PROBE_EVERY = 256, 4_096  # bytes: an image of 1,000 tokens' worth of bytes is always hit
TOKENS_PER_MEDIA = 1_000
"""An image, whatever its size in bytes: vision models turn one into 576 (LLaVA) to some 1,600 tokens (Llama 3.2)."""

NAMESPACE = "gw.bbr"
"""The dynamic-metadata namespace that BBR writes and Envoy forwards."""
KEY = "digest"
"""The key of the encoded digest in `NAMESPACE`."""

BOUNDARIES: tuple[int, ...] = tuple(
    itertools.accumulate(FIRST_BLOCK << level for level in range(MAX_LEVELS) for _ in range(BLOCKS_PER_LEVEL))
)
"""`BOUNDARIES[i]` is where block i ends, in bytes from the start of the prompt."""


class DigestError(ValueError):
    """The text is not a digest of a scheme that this version knows."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Model and shape of a request, and the chained hashes of its prompt."""

    model: str
    """The model that the server will be asked for: after aliases and rewrites. An adapter has its own cache."""
    stream: bool = False
    prompt_bytes: int = 0
    max_tokens: int = 0
    """The answer's limit; 0 when the client set none."""
    blocks: Sequence[int] = Blocks()
    """64-bit hashes of the complete blocks, first to last."""
    tokens: int = 0
    """The prompt's length in tokens where its bytes say nothing about it, because it holds images; else 0."""

    @property
    def prompt_tokens(self) -> int:
        """Estimate of the prompt's length in tokens."""
        return self.tokens or -(-self.prompt_bytes // BYTES_PER_TOKEN)

    def prefix_tokens(self, blocks: int) -> int:
        """Estimate how many tokens the first `blocks` blocks are; with images, by their share of the bytes."""
        if not self.tokens:
            return prefix_bytes(blocks) // BYTES_PER_TOKEN
        return self.tokens * prefix_bytes(blocks) // max(1, self.prompt_bytes)


def digest_of(peek: Peek, model: str) -> Digest:
    """Return the digest of a peeked request that goes to `model`: the one place where a body becomes a digest."""
    return Digest(
        model=model,
        stream=peek.stream,
        prompt_bytes=peek.prompt_bytes,
        max_tokens=peek.max_tokens,
        blocks=hash_prompt(peek.prompt, model=model, cache_salt=peek.cache_salt) if peek.prompt else Blocks(),
        tokens=media_tokens(peek.prompt),
    )


def media_tokens(parts: Sequence[bytes | memoryview]) -> int:
    """Return the tokens of a prompt with large images or other files in data URLs; 0 for one without."""
    media = size = 0
    for text in [bytes(part) for part in parts if _solid(part)]:
        at = text.find(MEDIA)
        while at >= 0:
            end = text.find(b'"', at)
            end = len(text) if end < 0 else end
            media, size = media + 1, size + end - at
            at = text.find(MEDIA, end)
    if not media:
        return 0
    return TOKENS_PER_MEDIA * media + (sum(map(len, parts)) - size) // BYTES_PER_TOKEN


def _solid(part: bytes | memoryview) -> bool:
    """Say whether a few probes find a stretch without a space, as media are; a search would cost more than the hashes.

    What is too small to be hit counts about right by its bytes.
    """
    return any(b" " not in bytes(part[at : at + PROBE]) for at in range(0, len(part) - PROBE, PROBE_EVERY))


def prefix_bytes(blocks: int) -> int:
    """Return how many bytes of the prompt the first `blocks` blocks cover."""
    return BOUNDARIES[blocks - 1] if blocks else 0


def hash_prompt(parts: Sequence[bytes | memoryview], *, model: str, cache_salt: str = "") -> Blocks:
    """Return the chained hashes of the complete blocks of the joined `parts`."""
    prompt = parts[0] if len(parts) == 1 else b"".join(parts)
    parent = xxhash.xxh3_64_intdigest(f"{SCHEME}\0{model}\0{cache_salt}".encode())
    view, start, hashes = memoryview(prompt), 0, []
    digest = xxhash.xxh3_64_intdigest
    for end in BOUNDARIES[: bisect.bisect_right(BOUNDARIES, len(prompt))]:
        parent = digest(view[start:end], seed=parent)
        hashes.append(parent)
        start = end
    return Blocks(pack(hashes))


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    scheme: int
    model: str
    stream: bool
    prompt_bytes: Annotated[int, msgspec.Meta(ge=0)]
    max_tokens: Annotated[int, msgspec.Meta(ge=0)]
    blocks: bytes
    tokens: Annotated[int, msgspec.Meta(ge=0)] = (
        0  # came later: an older reader ignores it, an older writer leaves it out
    )


def encode(digest: Digest) -> str:
    """Return `digest` as text for a metadata value: base64 of a msgpack array that begins with the scheme."""
    blocks = pack(digest.blocks)
    wire = _Wire(
        SCHEME, digest.model, digest.stream, digest.prompt_bytes, digest.max_tokens, blocks, digest.tokens
    )
    return base64.b64encode(msgspec.msgpack.encode(wire)).decode("ascii")


def decode(text: str) -> Digest:
    """Read what `encode` wrote; raise `DigestError` for anything else, other schemes included."""
    try:
        wire = _DECODER.decode(_BASE64.decode(f'"{text}"'))
        blocks = Blocks(wire.blocks)
    except (ValueError, msgspec.MsgspecError) as error:
        raise DigestError(f"not a digest: {error}") from error
    if wire.scheme != SCHEME:
        raise DigestError(f"digest scheme {wire.scheme}, expected {SCHEME}")
    return Digest(wire.model, wire.stream, wire.prompt_bytes, wire.max_tokens, blocks, wire.tokens)


_DECODER = msgspec.msgpack.Decoder(_Wire)
_BASE64 = msgspec.json.Decoder(bytes)
"""As strict as the standard library, and four times as fast."""
