"""What is known of prompts in tokens, found again by the blocks of their digests. Pure and bounded.

Two facts are kept. A prompt that was tokenized is the beginning of every prompt that goes on from it: the next turn of a
conversation. And what two prompts share in bytes they share in tokens: as soon as two of them have been tokenized, the
system prompt that they begin with is known for all others. A template that writes the beginning of a conversation
anew with every turn breaks the first; that shows when both turns have been tokenized, and then the second alone counts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from services.openai.digest import Digest, prefix_bytes
from services.openai.exact import Exact, common

DEFAULT_HASHES = 500_000
"""Hashes and blocks kept, some 100 bytes each: 50 MB, or a thousand prompts of 400 KB."""

Parts = Sequence[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class _Known:
    """One tokenized prompt."""

    exact: Exact
    blocks: tuple[int, ...]
    tail: int
    """Hash of its bytes after the last complete block."""

    @property
    def weight(self) -> int:
        return len(self.exact.hashes) + len(self.blocks)


class Memory:
    """Prompts by their last complete block, least recently learnt first; and what is shared, by the last shared block."""

    def __init__(self, hashes: int = DEFAULT_HASHES) -> None:
        self._limit = hashes
        self._weight = 0
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._through: dict[int, int] = {}
        """Each block of a known prompt → that prompt's last block."""
        self._shared: dict[int, Exact] = {}
        self._kept = self._broken = 0
        """How often a turn's tokens were the beginning of the next one's, and how often not."""

    def __len__(self) -> int:
        return len(self._known)

    def find(self, digest: Digest, prompt: Parts) -> Exact | None:
        """Return what is known of the prompt's beginning, as far as possible; `prompt` is what was digested."""
        blocks = tuple(digest.blocks)
        for depth in range(len(blocks), 0, -1):
            block = blocks[depth - 1]
            known = self._known.get(block) if self._broken <= self._kept else None
            if (
                known is not None
                and _tail(prompt, prefix_bytes(depth), known.exact.prompt_bytes) == known.tail
            ):
                return known.exact
            if (shared := self._shared.get(block)) is not None:
                return shared
        return None

    def learn(self, digest: Digest, prompt: Parts, exact: Exact) -> None:
        """Remember a prompt that is all of `exact`."""
        blocks = tuple(digest.blocks)
        if not blocks or not exact.hashes:
            return
        self._share(blocks, exact)
        self._forget(blocks[-1])
        known = _Known(exact, blocks, _tail(prompt, prefix_bytes(len(blocks)), exact.prompt_bytes))
        self._known[blocks[-1]] = known
        self._weight += known.weight
        for block in blocks:
            self._through[block] = blocks[-1]
        while self._weight > self._limit:
            self._forget(next(iter(self._known)))

    def _share(self, blocks: tuple[int, ...], exact: Exact) -> None:
        """Learn from the known prompt that `exact` has the most blocks in common with."""
        for depth in range(len(blocks), 0, -1):
            other = self._known.get(self._through.get(blocks[depth - 1], 0))
            if other is not None:
                shared = common(exact, other.exact, prefix_bytes(depth))
                before = self._shared.get(blocks[depth - 1])
                self._weight += len(shared.hashes) - (len(before.hashes) if before else 0)
                self._shared[blocks[depth - 1]] = shared
                if depth == len(other.blocks) < len(blocks):
                    whole = len(shared.hashes) == len(other.exact.hashes)
                    self._kept, self._broken = self._kept + whole, self._broken + (not whole)
                return

    def _forget(self, last: int) -> None:
        known = self._known.pop(last, None)
        if known is None:
            return
        self._weight -= known.weight
        for block in known.blocks:
            if self._through.get(block) == last:
                del self._through[block]
            if block in self._shared and block not in self._through:
                self._weight -= len(self._shared.pop(block).hashes)


def _tail(prompt: Parts, start: int, end: int) -> int:
    """Return the hash of `prompt[start:end]`; -1 when it is shorter."""
    hashed, at = xxhash.xxh3_64(), 0
    for part in prompt:
        if at < end and at + len(part) > start:
            hashed.update(part[max(0, start - at) : end - at])
        at += len(part)
    return hashed.intdigest() if at >= end else -1
