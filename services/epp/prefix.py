"""Which server holds which prefix of which prompt: an estimate from what was sent where.

A block's hash maps to the set of servers that were sent it, as an integer with one bit for each slot. A lookup walks
a prompt's blocks from the first and ANDs the masks, so each server's longest contiguous prefix falls out of
operations on whole sets, and the walk ends at the first block that nobody holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from services.epp.runs import Held

DEFAULT_CAPACITY = 2_000_000
"""Bytes of prompt assumed for a server that does not report its cache: 31,250 vLLM blocks of 16 tokens of 4 bytes."""

DEFAULT_PAIRS = 2_000_000
"""Blocks times holders remembered in all, some 200 bytes each (measured: `bench.prefix_soak`): 400 MB."""
SPARE = 64
"""Blocks that the largest holder forgets at once when there are too many in all: looking for it takes a while."""


class PrefixIndex:
    """Block hash → holders, with an LRU for each slot bounded by that server's cache size in bytes of prompt.

    `pairs` bounds the whole: beyond it the slot with the most blocks forgets its oldest, so that no server with a huge
    cache takes the memory of the others.
    """

    def __init__(self, default_capacity: int = DEFAULT_CAPACITY, pairs: int = DEFAULT_PAIRS) -> None:
        self._default = default_capacity
        self._most = pairs
        self._pairs = 0
        self._holders: dict[int, int] = {}
        self._held: dict[int, Held] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def match(self, blocks: Sequence[int]) -> dict[int, int]:
        """Return, for each slot that holds the first block, how many blocks it holds without a gap."""
        return contiguous(blocks, self._holders.get)

    def record(self, slot: int, blocks: Sequence[int]) -> None:
        """Note that a prompt of `blocks` went to `slot`."""
        held = self._at(slot)
        new, gone = held.record(blocks)
        self._clear(slot, gone)
        self._mark(slot, new)
        self._clear(slot, held.shrink())
        while self._pairs > self._most:
            self._spare()

    def drop(self, slot: int, blocks: Sequence[int], since: int = 0) -> None:
        """Take back what was recorded: the blocks from number `since` on never reached `slot`."""
        self._clear(slot, self._at(slot).drop(blocks, since))

    def resize(self, slot: int, capacity: int) -> None:
        """Bound what `slot` holds by its server's cache, in bytes of prompt; 0 means unknown."""
        held = self._at(slot)
        held.capacity = capacity or self._default
        self._clear(slot, held.shrink())

    def forget(self, slot: int) -> None:
        """Forget a server that left, so that its slot can be used again."""
        self.clear(slot)
        self._held.pop(slot, None)

    def clear(self, slot: int) -> None:
        """Forget what a server held that has lost its cache. Its capacity stays known."""
        self._clear(slot, self._at(slot).clear())

    def size(self, slot: int) -> int:
        """Return the bytes of prompt that `slot` is believed to hold."""
        held = self._held.get(slot)
        return held.size if held is not None else 0

    def _at(self, slot: int) -> Held:
        held = self._held.get(slot)
        if held is None:
            held = self._held[slot] = Held(self._default)
        return held

    def _spare(self) -> None:
        """Forget some of the largest holder's."""
        slot, held = max(self._held.items(), key=lambda item: len(item[1]))
        self._clear(slot, held.forget(SPARE))

    def _mark(self, slot: int, blocks: list[int]) -> None:
        bit, holders = 1 << slot, self._holders
        if holders.keys().isdisjoint(blocks):  # what is new at one server is new everywhere, most of the time
            before = len(holders)
            holders.update(dict.fromkeys(blocks, bit))
            self._pairs += len(holders) - before
            return
        for block in blocks:
            mask = holders.get(block, 0)
            self._pairs += not mask & bit
            holders[block] = mask | bit

    def _clear(self, slot: int, blocks: list[int]) -> None:
        """Take `slot` off the holders of `blocks`. One may have gone before, where hashes are not chained as they say."""
        bit, holders = 1 << slot, self._holders
        masks = list(map(holders.pop, blocks, itertools.repeat(0)))
        if masks.count(bit) == len(masks):  # nobody else holds them, most of the time
            self._pairs -= len(masks)
            return
        for block, mask in zip(blocks, masks, strict=True):
            self._pairs -= bool(mask & bit)
            if left := mask & ~bit:
                holders[block] = left


def contiguous(blocks: Sequence[int], holders: Callable[[int, int], int]) -> dict[int, int]:
    """Return for each slot how many of `blocks` it holds from the first on. `holders(block, 0)` is a block's mask."""
    found: dict[int, int] = {}
    alive = holders(blocks[0], 0) if blocks else 0
    depth = 0
    while alive:
        depth += 1
        still = alive & holders(blocks[depth], 0) if depth < len(blocks) else 0
        if still != alive:
            found.update(dict.fromkeys(_slots(alive & ~still), depth))
        alive = still
    return found


def _slots(mask: int) -> list[int]:
    """Return the positions of the bits set in `mask`; text beats shifting once masks are hundreds of bits wide."""
    return [slot for slot, bit in enumerate(bin(mask)[:1:-1]) if bit == "1"]
