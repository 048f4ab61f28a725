"""KV blocks with an LRU prefix cache, as vLLM keeps them: full blocks are found again by their chained hash.

A block is private (partly filled, or a duplicate of one that is cached already), referenced (cached and in use by
one sequence or more), idle (cached, in use by none, evicted oldest first), or free. Knows nothing of time or requests.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """These blocks can be found from now on. Each one's parent is the one before; the first one's is `parent`."""

    hashes: tuple[int, ...]
    parent: int | None
    first: int = field(default=0, compare=False)
    """How many blocks of the sequence come before them."""


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    """These blocks were evicted."""

    hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AllBlocksCleared:
    """Nothing is cached any more."""


KvEvent = BlocksStored | BlocksRemoved | AllBlocksCleared


@dataclass(slots=True)
class Lease:
    """The blocks that one sequence holds."""

    hashes: list[int] = field(default_factory=list)
    """Cached blocks, first to last, that eviction must leave alone."""
    private: int = 0
    seen: int = 0
    """How many leading blocks are full and were offered to the cache."""

    @property
    def blocks(self) -> int:
        """How many blocks the sequence holds."""
        return len(self.hashes) + self.private


class KvCache:
    """A fixed number of blocks, shared by all sequences of one engine."""

    def __init__(
        self, blocks: int, block_size: int, on_event: Callable[[KvEvent], None] | None = None
    ) -> None:
        self.total = blocks
        self.block_size = block_size
        self._on_event = on_event
        self._private = 0
        self._referenced: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that a sequence can get: the free and the idle ones."""
        return self.total - self._private - len(self._referenced)

    @property
    def usage(self) -> float:
        """Share of blocks in use, 0 to 1; idle ones do not count, as in `vllm:kv_cache_usage_perc`."""
        return 1 - self.available / self.total

    @property
    def cached_blocks(self) -> int:
        """Blocks that can be found by their hash."""
        return len(self._referenced) + len(self._idle)

    def held(self, hashes: Sequence[int]) -> int:
        """Return how many of the first `hashes` are cached, without a gap, and leave them as they are."""
        referenced, idle = self._referenced, self._idle
        for position, block in enumerate(hashes):
            if block not in referenced and block not in idle:
                return position
        return len(hashes)

    def match(self, hashes: Sequence[int], limit: int) -> Lease:
        """Take the longest cached prefix of `hashes`, at most `limit` blocks."""
        lease, referenced, idle = Lease(), self._referenced, self._idle
        for block in hashes[:limit]:
            if block in referenced:
                referenced[block] += 1
            elif block in idle:
                del idle[block]
                referenced[block] = 1
            else:
                break
            lease.hashes.append(block)
        lease.seen = len(lease.hashes)
        return lease

    def missing(self, lease: Lease, tokens: int) -> int:
        """How many blocks `lease` lacks to hold `tokens`."""
        return max(0, -(-tokens // self.block_size) - lease.blocks)

    def reserve(self, lease: Lease, tokens: int) -> bool:
        """Give `lease` room for `tokens`, evicting idle blocks; False, and nothing changed, if there is none."""
        missing = -(-tokens // self.block_size) - len(lease.hashes) - lease.private
        if missing <= 0:
            return True
        available = self.available
        if missing > available:
            return False
        self._evict(missing - (available - len(self._idle)))
        lease.private += missing
        self._private += missing
        return True

    def commit(self, lease: Lease, hashes: Sequence[int], tokens: int) -> None:
        """Make the full blocks among the first `tokens` findable."""
        first, full = lease.seen, min(tokens // self.block_size, len(hashes))
        if full <= first:
            return
        stored: list[int] = []
        referenced, idle = self._referenced, self._idle
        for block in hashes[first:full]:
            if block in referenced or block in idle:
                continue  # computed twice at the same time: the second copy stays private, as in vLLM
            referenced[block] = 1
            stored.append(block)
        lease.hashes += stored
        lease.seen = full
        lease.private -= len(stored)
        self._private -= len(stored)
        if stored and self._on_event is not None:
            self._report_stored(stored, first, hashes[:full])

    def release(self, lease: Lease) -> None:
        """Give back every block. The tail becomes idle first, so that it is evicted before what it builds on."""
        self._private -= lease.private
        referenced, idle = self._referenced, self._idle
        for block in reversed(lease.hashes):
            users = referenced[block] - 1
            if users:
                referenced[block] = users
            else:
                del referenced[block]
                idle[block] = None
        lease.hashes.clear()
        lease.private = lease.seen = 0

    def clear(self) -> None:
        """Forget the idle blocks: what a restart or `/reset_prefix_cache` does when nothing runs."""
        self._idle.clear()
        if self._on_event is not None:
            self._on_event(AllBlocksCleared())

    def _evict(self, count: int) -> None:
        if count <= 0:
            return
        removed = tuple(self._idle.popitem(last=False)[0] for _ in range(count))
        if self._on_event is not None:
            self._on_event(BlocksRemoved(removed))

    def _report_stored(self, stored: list[int], first: int, chain: Sequence[int]) -> None:
        """Report runs of consecutive blocks from `first` on: a parent must be the block right before."""
        report, new = self._on_event, set(stored)
        assert report is not None  # noqa: S101 - the caller checked; the type checker cannot see it
        start = first
        for end in range(first, len(chain) + 1):
            if end == len(chain) or chain[end] not in new:
                if start < end:
                    report(BlocksStored(tuple(chain[start:end]), chain[start - 1] if start else None, start))
                start = end + 1
