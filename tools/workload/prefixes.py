"""How much of a workload's prompts a cache can serve: by one server that forgets nothing, and by random routing.

Both are bounds for a router: no routing beats the first, and one that does not beat the second does nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import xxhash

CACHE_BLOCK = 16
"""Tokens per block of vLLM's prefix cache; only whole blocks are found again."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as ids of its blocks; equal ids stand for equal prompts up to the block's end."""

    blocks: Sequence[int]
    tokens: int
    block_tokens: int
    """The last block may be shorter."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Tokens asked for and tokens found in a cache."""

    prompt_tokens: int
    cached_tokens: int

    @property
    def rate(self) -> float:
        """Share of the tokens that were found, 0 to 1."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def text_prompt(text: str, *, token_bytes: int = 4, block_tokens: int = CACHE_BLOCK) -> Prompt:
    """Return `text` as chained hashes of its whole blocks."""
    data, size, parent, blocks = text.encode(), token_bytes * block_tokens, 0, []
    for start in range(0, len(data) - size + 1, size):
        parent = xxhash.xxh3_64_intdigest(data[start : start + size], seed=parent)
        blocks.append(parent)
    return Prompt(blocks, -(-len(data) // token_bytes), block_tokens)


def ideal_hits(prompts: Iterable[Prompt]) -> Hits:
    """Return what one server with an infinite cache finds, prompts one after the other."""
    return _hits(prompts, 1, random.Random(0))


def random_hits(prompts: Iterable[Prompt], servers: int, rng: random.Random) -> Hits:
    """Return what `servers` servers with infinite caches find when each prompt goes to any of them."""
    return _hits(prompts, servers, rng)


def _hits(prompts: Iterable[Prompt], servers: int, rng: random.Random) -> Hits:
    caches: list[set[int]] = [set() for _ in range(servers)]
    asked = found = 0
    for prompt in prompts:
        cache = caches[rng.randrange(servers)]
        known = next((i for i, block in enumerate(prompt.blocks) if block not in cache), len(prompt.blocks))
        asked += prompt.tokens
        found += min(known * prompt.block_tokens, prompt.tokens)
        cache.update(prompt.blocks)
    return Hits(asked, found)
