"""Which server holds which prefix of which prompt: an estimate from what was sent where.

A block's hash maps to the set of servers that were sent it, as an integer with one bit for each slot. A lookup walks
a prompt's blocks from the first and ANDs the masks, so each server's longest contiguous prefix falls out of
operations on whole sets, and the walk ends at the first block that nobody holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from services.openai.digest import BOUNDARIES

DEFAULT_CAPACITY = 2_000_000
"""Bytes of prompt assumed for a server that does not report its cache: 31,250 vLLM blocks of 16 tokens of 4 bytes."""

DEFAULT_PAIRS = 2_000_000
"""Blocks times holders remembered in all, some 200 bytes each (measured: `bench.prefix_soak`): 400 MB."""
SPARE = 64
"""Blocks that the largest holder forgets at once when there are too many in all: looking for it takes a while."""

SIZES = tuple(end - start for start, end in zip((0, *BOUNDARIES), BOUNDARIES, strict=False))
"""`SIZES[i]` is the number of prompt bytes in block i."""


class _Held:
    """The blocks of one server, least recently sent first, and their size in bytes of prompt."""

    __slots__ = ("blocks", "capacity", "size")

    def __init__(self, capacity: int) -> None:
        self.blocks: OrderedDict[int, int] = OrderedDict()
        self.capacity = capacity
        self.size = 0


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
        self._held: dict[int, _Held] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def match(self, blocks: Sequence[int]) -> dict[int, int]:
        """Return, for each slot that holds the first block, how many blocks it holds without a gap."""
        return contiguous(blocks, self._holders.get)

    def record(self, slot: int, blocks: Sequence[int], start: int = 0) -> None:
        """Note that a prompt of `blocks` went to `slot`; `start` is the place of the first of them in the prompt."""
        held = self._held.get(slot)
        if held is None:
            held = self._held[slot] = _Held(self._default)
        bit, here, holders = 1 << slot, held.blocks, self._holders
        touch, holding, before = here.move_to_end, holders.get, len(here)
        # Backwards, as vLLM frees blocks: the end of a prompt is forgotten before the beginning that others share.
        for position in range(len(blocks) - 1, -1, -1):
            block = blocks[position]
            if block in here:
                touch(block)
            else:
                here[block] = size = SIZES[start + position]
                held.size += size
                holders[block] = holding(block, 0) | bit
        self._pairs += len(here) - before
        self._shrink(slot, held)
        if self._pairs > self._most:
            self._spare()

    def drop(self, slot: int, blocks: Sequence[int]) -> None:
        """Take back what was recorded: these blocks never reached `slot`."""
        held = self._held.get(slot)
        if held is None:
            return
        for block in blocks:
            size = held.blocks.pop(block, None)
            if size is not None:
                held.size -= size
                self._clear(block, slot)

    def resize(self, slot: int, capacity: int) -> None:
        """Bound what `slot` holds by its server's cache, in bytes of prompt; 0 means unknown."""
        held = self._held.setdefault(slot, _Held(self._default))
        held.capacity = capacity or self._default
        self._shrink(slot, held)

    def forget(self, slot: int) -> None:
        """Forget a server that left, so that its slot can be used again."""
        self.clear(slot)
        self._held.pop(slot, None)

    def clear(self, slot: int) -> None:
        """Forget what a server held that has lost its cache. Its capacity stays known."""
        held = self._held.get(slot)
        for block in held.blocks if held is not None else ():
            self._clear(block, slot)
        if held is not None:
            held.blocks.clear()
            held.size = 0

    def size(self, slot: int) -> int:
        """Return the bytes of prompt that `slot` is believed to hold."""
        held = self._held.get(slot)
        return held.size if held is not None else 0

    def _shrink(self, slot: int, held: _Held) -> None:
        while held.size > held.capacity:
            self._oldest(slot, held)

    def _spare(self) -> None:
        """Forget enough to be within the bound of the whole."""
        while self._pairs > self._most:
            slot, held = max(self._held.items(), key=lambda item: len(item[1].blocks))
            for _ in range(min(SPARE, len(held.blocks))):
                self._oldest(slot, held)

    def _oldest(self, slot: int, held: _Held) -> None:
        block, size = held.blocks.popitem(last=False)
        held.size -= size
        self._clear(block, slot)

    def _clear(self, block: int, slot: int) -> None:
        self._pairs -= 1
        left = self._holders[block] & ~(1 << slot)
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]


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
