"""Which server holds which prefix of which prompt: an estimate from what was sent where.

A block's hash maps to the set of servers that were sent it, as an integer with one bit for each slot. A lookup walks
a prompt's blocks from the first and ANDs the masks, so each server's longest contiguous prefix falls out of
operations on whole sets, and the walk ends at the first block that nobody holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence

from services.openai.digest import BOUNDARIES

DEFAULT_CAPACITY = 2_000_000
"""Bytes of prompt assumed for a server that does not report its cache: 31,250 vLLM blocks of 16 tokens of 4 bytes."""

DEFAULT_PAIRS = 2_000_000
"""Blocks times holders remembered in all, some 200 bytes each (measured: `bench.prefix_soak`): 400 MB."""
SPARE = 64
"""Blocks that the largest holder forgets at once when there are too many in all: looking for it takes a while."""

SIZES = tuple(end - start for start, end in zip((0, *BOUNDARIES), BOUNDARIES, strict=False))
"""`SIZES[i]` is the number of prompt bytes in block i."""


class _Run:
    """Blocks that follow each other and were last sent together; `start` is the place of the first in the prompt."""

    __slots__ = ("blocks", "parent", "start")

    def __init__(self, blocks: list[int], start: int, parent: _Run | None) -> None:
        self.blocks = blocks
        self.start = start
        self.parent = parent
        """What comes before; it may have been cut since, and its end is then this run's uncle."""


class _Held:
    """The blocks of one server and their size in bytes of prompt.

    They are in the order in which they were sent, the end of a prompt before its beginning, as vLLM frees blocks: the
    end of a prompt is forgotten before the beginning that others share. Runs are moved in place of blocks, so that a
    prompt which is known costs as many steps as it has turns and branches.
    """

    __slots__ = ("capacity", "loose", "of", "runs", "size")

    def __init__(self, capacity: int) -> None:
        self.of: dict[int, _Run] = {}
        """Block → its run."""
        self.runs: OrderedDict[_Run, None] = OrderedDict()
        """Least recently sent first; a run never before one that continues it."""
        self.loose = False
        """Whether there ever was a run that was told of without what comes before."""
        self.capacity = capacity
        self.size = 0

    def known(self, blocks: Sequence[int]) -> int:
        """Return how many of `blocks` are there, from the first on: what is there has what comes before it."""
        of, low, high = self.of, 0, len(blocks)
        while low < high:
            middle = (low + high + 1) // 2
            if blocks[middle - 1] in of:
                low = middle
            else:
                high = middle - 1
        return low

    def cut(self, run: _Run, end: int) -> _Run:
        """Return a run that ends with block number `end` of the prompt; what `run` has beyond becomes another."""
        length = end - run.start
        if length >= len(run.blocks):
            return run
        head = _Run(run.blocks[:length], run.start, run.parent)
        run.blocks, run.start, run.parent = run.blocks[length:], end, head
        self.of.update(dict.fromkeys(head.blocks, head))
        self.runs[head] = None
        return head

    def grow(self, run: _Run | None, start: int, blocks: Sequence[int]) -> _Run:
        """Continue `run`, which ends there, with `blocks` from number `start` on."""
        if run is None:
            run = _Run([], start, None)
            self.runs[run] = None
            self.loose = self.loose or start > 0
        run.blocks.extend(blocks)
        self.of.update(dict.fromkeys(blocks, run))
        self.size += sum(SIZES[start : start + len(blocks)])
        return run

    def touch(self, run: _Run) -> _Run:
        """Make `run` and all before it the most recent; return the first of them."""
        while True:
            if run in self.runs:
                self.runs.move_to_end(run)
            parent = run.parent
            while parent is not None and parent.start >= run.start:
                parent = parent.parent
            if parent is None:
                return run
            run.parent = run = self.cut(parent, run.start)

    def pop(self, run: _Run, count: int) -> list[int]:
        """Forget the last `count` blocks of `run` and return them."""
        left = len(run.blocks) - count
        gone = run.blocks[left:]
        del run.blocks[left:]
        for block in gone:
            del self.of[block]
        end = run.start + left
        self.size -= sum(SIZES[end : end + count])
        if not left:
            del self.runs[run]
        return gone

    def oldest(self, size: int) -> list[int]:
        """Forget the blocks that were sent longest ago, of at least `size` bytes or a whole run, and return them."""
        run = next(iter(self.runs))
        count = freed = 0
        while freed < size and count < len(run.blocks):
            count += 1
            freed += SIZES[run.start + len(run.blocks) - count]
        return self.pop(run, count)


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
        holders = self._holders.get
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

    def record(self, slot: int, blocks: Sequence[int], start: int = 0, parent: int = 0) -> None:
        """Note that a prompt went to `slot`.

        `blocks` are all of it, or those from number `start` on, which come after the block `parent`.
        """
        held = self._held.get(slot)
        if held is None:
            held = self._held[slot] = _Held(self._default)
        self._put(slot, held, blocks, start, parent)
        self._shrink(slot, held)
        if self._pairs > self._most:
            self._spare()

    def drop(self, slot: int, blocks: Sequence[int]) -> None:
        """Take back what was recorded: these blocks, the last of a prompt, never reached `slot`.

        What other prompts continue stays.
        """
        held = self._held.get(slot)
        if held is None:
            return
        for block in reversed(blocks):
            run = held.of.get(block)
            if run is not None and run.blocks[-1] == block:
                self._clear(slot, held.pop(run, 1))

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
        if held is not None:
            self._clear(slot, held.of)
            self._held[slot] = _Held(held.capacity)

    def size(self, slot: int) -> int:
        """Return the bytes of prompt that `slot` is believed to hold."""
        held = self._held.get(slot)
        return held.size if held is not None else 0

    def _put(self, slot: int, held: _Held, blocks: Sequence[int], start: int, parent: int) -> _Run | None:
        known = held.known(blocks)
        run, end = held.of.get(blocks[known - 1] if known else parent), start + known
        if run is not None and run.start < end <= run.start + len(run.blocks):
            run = held.cut(run, end)
        else:
            run = None
        if new := blocks[known:]:
            if held.loose:
                self._forget_loose(slot, held, new)
            run = held.grow(run, end, new)
            self._pairs += len(new)
            bit, holders, holding = 1 << slot, self._holders, self._holders.get
            for block in new:
                holders[block] = holding(block, 0) | bit
        if run is not None:
            first = held.touch(run)
            if first.start > start:  # it was told of without its beginning
                first.parent = self._put(slot, held, blocks[: first.start - start], start, parent)
        return run

    def _forget_loose(self, slot: int, held: _Held, blocks: Sequence[int]) -> None:
        """Forget runs with any of `blocks` that were told of without what comes before: they are told anew."""
        if held.of.keys().isdisjoint(blocks):
            return
        for run in {held.of[block] for block in blocks if block in held.of}:
            self._clear(slot, held.pop(run, len(run.blocks)))

    def _shrink(self, slot: int, held: _Held) -> None:
        while held.size > held.capacity:
            self._clear(slot, held.oldest(held.size - held.capacity))

    def _spare(self) -> None:
        """Forget enough to be within the bound of the whole."""
        while self._pairs > self._most:
            slot, held = max(self._held.items(), key=lambda item: len(item[1].of))
            for _ in range(min(SPARE, len(held.of))):
                self._clear(slot, held.oldest(1))

    def _clear(self, slot: int, blocks: Collection[int]) -> None:
        holders, others = self._holders, ~(1 << slot)
        for block in blocks:
            if left := holders[block] & others:
                holders[block] = left
            else:
                del holders[block]
        self._pairs -= len(blocks)


def _slots(mask: int) -> list[int]:
    """Return the positions of the bits set in `mask`; text beats shifting once masks are hundreds of bits wide."""
    return [slot for slot, bit in enumerate(bin(mask)[:1:-1]) if bit == "1"]
