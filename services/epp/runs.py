"""What one server holds of prompts: runs of blocks, the least recently sent first.

The blocks that a prompt adds to what is held make one run, and age as one; a prompt that leaves a run in its middle
splits it. So recording costs a few operations for each run on a prompt's way instead of some for each of its blocks.
Hashes are chained: a block says where in its prompt it stands, and two prompts that have one in common have all before.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Sequence

from services.openai.digest import BOUNDARIES, prefix_bytes


class Run:
    """Blocks that follow each other, and the position of the first in its prompt."""

    __slots__ = ("blocks", "start")

    def __init__(self, start: int, blocks: list[int]) -> None:
        self.start = start
        self.blocks = blocks

    def bytes(self, since: int = 0) -> int:
        """Return the size in bytes of prompt, of all or from the run's block number `since` on."""
        return prefix_bytes(self.start + len(self.blocks)) - prefix_bytes(self.start + since)

    def shared(self, prompt: Sequence[int]) -> int:
        """Return how many of the run's blocks `prompt` has, which has the first."""
        own, start = self.blocks, self.start
        least, most = 1, min(len(own), len(prompt) - start)
        while least < most:
            middle = (least + most + 1) // 2
            if own[middle - 1] == prompt[start + middle - 1]:
                least = middle
            else:
                most = middle - 1
        return least


class Held:
    """One server's runs. `size` and `capacity` are in bytes of prompt."""

    __slots__ = ("_count", "_order", "_starts", "capacity", "size")

    def __init__(self, capacity: int) -> None:
        self._starts: dict[int, Run] = {}
        """First block → run."""
        self._order: OrderedDict[Run, None] = OrderedDict()
        self._count = 0
        self.capacity = capacity
        self.size = 0

    def __len__(self) -> int:
        return self._count

    def record(self, prompt: Sequence[int]) -> tuple[list[int], list[int]]:
        """Make all of `prompt` the most recent; return its blocks that are new, and those that had to go for them.

        A run whose predecessor is missing is worth nothing: it goes, and its blocks come again as new ones.
        """
        known, path, gone = 0, [], []
        for run in self._on(prompt):
            if run.start != known:
                gone += self._cut(run, 0)
                continue
            shared = run.shared(prompt)
            path.append(run if shared == len(run.blocks) else self._split(run, shared))
            known += shared
        new = list(prompt[known:])
        if new:
            path.append(self._add(known, new))
        # From the end to the beginning, as vLLM frees blocks: what others share is forgotten last.
        for run in reversed(path):
            self._order.move_to_end(run)
        return new, gone

    def drop(self, prompt: Sequence[int], since: int) -> list[int]:
        """Take out what is held of `prompt` from its block number `since` on; return it."""
        gone: list[int] = []
        for run in self._on(prompt):
            shared = run.shared(prompt)
            if run.start + shared > since:
                gone += self._cut(run, max(0, since - run.start))
        return gone

    def shrink(self) -> list[int]:
        """Forget the least recent beyond the capacity; return it."""
        gone: list[int] = []
        while self.size > self.capacity:
            run = next(iter(self._order))
            left = prefix_bytes(run.start + len(run.blocks)) - (self.size - self.capacity)
            gone += self._cut(run, max(0, bisect.bisect_right(BOUNDARIES, left) - run.start))
        return gone

    def forget(self, count: int) -> list[int]:
        """Forget `count` of the least recent blocks, as far as one run has them; return them."""
        run = next(iter(self._order))
        return self._cut(run, max(0, len(run.blocks) - count))

    def clear(self) -> list[int]:
        """Forget everything; return it."""
        gone = [block for run in self._order for block in run.blocks]
        self._starts.clear()
        self._order.clear()
        self._count = self.size = 0
        return gone

    def _on(self, prompt: Sequence[int]) -> list[Run]:
        """Return the runs on the way of `prompt`, from its beginning."""
        if self._starts.keys().isdisjoint(prompt):
            return []
        return [run for run in dict.fromkeys(map(self._starts.get, prompt)) if run is not None]

    def _add(self, start: int, blocks: list[int]) -> Run:
        run = self._starts[blocks[0]] = Run(start, blocks)
        self._order[run] = None
        self._count += len(blocks)
        self.size += run.bytes()
        return run

    def _split(self, run: Run, keep: int) -> Run:
        """Part `run` behind its first `keep` blocks; return these. The others keep its age."""
        head = Run(run.start, run.blocks[:keep])
        run.start, run.blocks = run.start + keep, run.blocks[keep:]
        self._starts[head.blocks[0]], self._starts[run.blocks[0]] = head, run
        self._order[head] = None
        return head

    def _cut(self, run: Run, keep: int) -> list[int]:
        """Take all but the first `keep` blocks out of `run`; return what is gone."""
        gone = run.blocks[keep:]
        self.size -= run.bytes(keep)
        self._count -= len(gone)
        if keep:
            del run.blocks[keep:]
        else:
            del self._order[run]
            if self._starts.get(gone[0]) is run:  # always, where hashes are chained as they say
                del self._starts[gone[0]]
        return gone
