"""Which server holds which prefix of which prompt: an estimate from what was sent where.

The prompts are a tree (`prefix_tree`) whose nodes say who holds them, as an integer with one bit for each slot. A lookup
walks down and ANDs the masks, so each server's longest contiguous prefix falls out of operations on whole sets, and the
walk ends where nobody holds more.

Each server forgets what was used there longest ago, the end of a prompt before its beginning, as vLLM frees blocks: the
end is forgotten before the beginning that others share. A prompt is used from when it is sent until its answer has ended:
only then the server may give its blocks away, and those of the conversation that paused last go last.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Sequence

from services.epp.prefix_tree import Node, Tree
from services.openai.blocks import WIDTH, pack
from services.openai.digest import BOUNDARIES, prefix_bytes

DEFAULT_CAPACITY = 2_000_000
"""Bytes of prompt assumed for a server that does not report its cache: 31,250 vLLM blocks of 16 tokens of 4 bytes."""

DEFAULT_PAIRS = 2_000_000
"""Blocks times holders remembered in all."""
SPARE = 64
"""Blocks that the largest holder forgets at once when there are too many in all: looking for it takes a while."""

SIZES = tuple(end - start for start, end in zip((0, *BOUNDARIES), BOUNDARIES, strict=False))
"""`SIZES[i]` is the number of prompt bytes in block i."""


class _Held:
    """What one server holds, and the order in which it was sent."""

    __slots__ = ("capacity", "count", "order", "room", "size", "time")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        """Bytes of prompt."""
        self.count = 0
        """Blocks."""
        self.time = 0
        """Counts prompts that were sent there, and their ends."""
        self.order: deque[tuple[int, Node]] = deque()
        """When a prompt was used and the node where it ends, or where what is left of it does. It stands for this node
        and those before it as far as they were not touched since; for none when its own was."""
        self.room = 0
        """The length of `order` at which it is tidied."""

    def touch(self, slot: int, end: Node) -> None:
        """Note that a prompt which ends with `end` is used now."""
        self.time += 1
        bit, now, node = 1 << slot, self.time, end
        while node.parent is not None:
            if slot not in node.touched:
                node.mask |= bit
                self.count += node.end - node.start
                self.size += prefix_bytes(node.end) - prefix_bytes(node.start)
            node.touched[slot] = now
            node = node.parent
        if self.order and self.order[-1][1] is end:
            self.order.pop()
        self.order.append((now, end))
        if len(self.order) > self.room:
            self.order = deque(one for one in self.order if one[1].touched.get(slot) == one[0])
            self.room = 2 * len(self.order) + SPARE

    def eldest(self, slot: int) -> Node:
        """Return the node that was used longest ago and that nothing held here continues."""
        while True:
            time, node = self.order[0]
            if node.touched.get(slot) == time:
                return node
            self.order.popleft()

    def ended(self, slot: int, time: int, before: Node | None) -> None:
        """Note that a prompt which was used at `time` goes to the node `before` now and no further."""
        at = bisect.bisect_left(self.order, time, key=lambda one: one[0]) if self.order[0][0] != time else 0
        if at == len(self.order) or self.order[at][0] != time:
            return
        if before is not None and before.touched.get(slot) == time:
            self.order[at] = (time, before)
        else:
            del self.order[at]


class PrefixIndex:
    """Block hash → holders, with an LRU for each slot bounded by that server's cache size in bytes of prompt.

    `pairs` bounds the whole: beyond it the slot with the most blocks forgets its oldest, so that no server with a huge
    cache takes the memory of the others.
    """

    def __init__(self, default_capacity: int = DEFAULT_CAPACITY, pairs: int = DEFAULT_PAIRS) -> None:
        self._default = default_capacity
        self._most = pairs
        self._pairs = 0
        self._tree = Tree()
        self._held: dict[int, _Held] = {}

    def __len__(self) -> int:
        return self._tree.blocks

    def match(self, blocks: Sequence[int]) -> dict[int, int]:
        """Return, for each slot that holds the first block, how many blocks it holds without a gap."""
        path, depth = self._tree.walk(pack(blocks))
        found: dict[int, int] = {}
        alive = path[0].mask if path else 0
        for node in path:
            if (still := alive & node.mask) != alive:
                found.update(dict.fromkeys(_slots(alive & ~still), node.start))
                alive = still
        found.update(dict.fromkeys(_slots(alive), depth))
        return found

    def ends(self, blocks: Sequence[int]) -> list[int]:
        """Return the last blocks of prompts that this one continues, and of what it has in common with others."""
        prompt = pack(blocks)
        path, depth = self._tree.walk(prompt)
        most = min(depth, len(prompt) // WIDTH - 1)
        return [int.from_bytes(node.blocks[-WIDTH:], "little") for node in path if node.end <= most]

    def record(self, slot: int, blocks: Sequence[int], start: int = 0, parent: int = 0) -> None:
        """Note that a prompt is used at `slot`: it went there, or its answer ended.

        `blocks` are all of it, or those from number `start` on, which come after the block `parent`: of no use, and
        not remembered, where that is not known to be there.
        """
        tree = self._tree
        after = tree.find(parent, start - 1) if start else tree.root
        if after is None or (start and slot not in after.touched):
            return
        held = self._held.get(slot)
        if held is None:
            held = self._held[slot] = _Held(self._default)
        before = held.count
        held.touch(slot, tree.grow(tree.cut(after, start), pack(blocks)))
        self._pairs += held.count - before
        self._shrink(slot, held)
        if self._pairs > self._most:
            self._spare()

    def freed(self, slot: int, tail: int) -> None:
        """Note that a request whose prompt ends with the block `tail` has ended at `slot`, as far as it is held there."""
        held, found = self._held.get(slot), self._tree.where(tail)
        if held is None or found is None:
            return
        node, end = found
        if slot in node.touched:
            held.touch(slot, self._tree.cut(node, end))

    def drop(self, slot: int, blocks: Sequence[int], start: int) -> None:
        """Take back what was recorded: the blocks of this prompt from number `start` on never reached `slot`.

        What other prompts continue stays.
        """
        held = self._held.get(slot)
        path, depth = self._tree.walk(pack(blocks))
        for node in reversed(path):
            if held is None or slot not in node.touched:
                continue
            goes_on = any(slot in child.touched for child in node.children.values())
            if goes_on or node.end > depth or node.end <= start:
                return
            self._forget(slot, held, node, max(node.start, start))

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
        while held is not None and held.count:
            node = held.eldest(slot)
            self._forget(slot, held, node, node.start)

    def size(self, slot: int) -> int:
        """Return the bytes of prompt that `slot` is believed to hold."""
        held = self._held.get(slot)
        return held.size if held is not None else 0

    def _shrink(self, slot: int, held: _Held) -> None:
        while (over := held.size - held.capacity) > 0:
            node = held.eldest(slot)
            fits = bisect.bisect_right(BOUNDARIES, prefix_bytes(node.end) - over)
            self._forget(slot, held, node, max(node.start, fits))

    def _spare(self) -> None:
        """Forget enough to be within the bound of the whole."""
        while self._pairs > self._most:
            slot, held = max(self._held.items(), key=lambda item: item[1].count)
            left = max(0, held.count - SPARE)
            while held.count > left:
                node = held.eldest(slot)
                self._forget(slot, held, node, max(node.start, node.end - held.count + left))

    def _forget(self, slot: int, held: _Held, node: Node, end: int) -> None:
        """Forget that `slot` holds the blocks of `node` from number `end` on; nothing that it holds continues them."""
        self._pairs -= node.end - end
        held.count -= node.end - end
        held.size -= prefix_bytes(node.end) - prefix_bytes(end)
        if end > node.start and len(node.touched) == 1:
            self._tree.shorten(node, end)
            return
        before = self._tree.cut(node, end) if end > node.start else node.parent
        time = node.touched.pop(slot)
        node.mask &= ~(1 << slot)
        if not node.mask:
            self._tree.shorten(node, node.start)
        held.ended(slot, time, before)


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
