"""Blocks are found by their hash, evicted oldest first, and never lost."""

from __future__ import annotations

import random

import pytest

from tools.model_server.kv_cache import AllBlocksCleared, BlocksRemoved, BlocksStored, KvCache, KvEvent, Lease


def fill(kv, hashes, tokens=None):
    """Compute the blocks of `hashes` in a new lease."""
    lease = kv.match(hashes, len(hashes))
    tokens = len(hashes) * kv.block_size if tokens is None else tokens
    assert kv.reserve(lease, tokens)
    kv.commit(lease, hashes, tokens)
    return lease


def test_a_released_prefix_is_found_again():
    """Blocks stay cached after their sequence has gone."""
    kv = KvCache(8, 16)
    kv.release(fill(kv, [1, 2, 3]))
    assert kv.match([1, 2, 9], 3).hashes == [1, 2]


def test_a_match_stops_at_the_first_block_that_is_missing():
    """Block 3 is cached, but without block 2 its tokens would have no past."""
    kv = KvCache(8, 16)
    kv.release(fill(kv, [1]))
    kv.release(fill(kv, [3]))
    assert kv.match([1, 2, 3], 3).hashes == [1]


def test_looking_for_a_prefix_changes_nothing():
    """Used and idle blocks count; the oldest is still evicted first."""
    kv = KvCache(4, 16)
    kv.release(fill(kv, [1]))
    kv.release(fill(kv, [2]))
    used = fill(kv, [3])
    assert [kv.held(hashes) for hashes in ([1], [3, 2], [2, 9, 1], [9])] == [1, 2, 1, 0]
    assert kv.reserve(used, 3 * 16)
    assert (kv.held([1]), kv.held([2])) == (0, 1)


def test_a_match_keeps_to_its_limit():
    """The last token of a prompt is always computed, so its block may not be taken from the cache."""
    kv = KvCache(8, 16)
    kv.release(fill(kv, [1, 2]))
    assert kv.match([1, 2], 1).hashes == [1]


def test_a_part_of_a_block_is_not_cached():
    """Only full blocks have a hash."""
    kv = KvCache(8, 16)
    kv.release(fill(kv, [1, 2], tokens=31))
    assert kv.match([1, 2], 2).hashes == [1]


def test_the_oldest_idle_block_is_evicted_first():
    """What was used last stays; of one sequence the tail goes before what it builds on."""
    kv = KvCache(4, 16)
    kv.release(fill(kv, [1, 2]))
    kv.release(fill(kv, [5, 6]))
    kv.release(fill(kv, [1, 2]))
    kv.release(fill(kv, [9]))
    assert [kv.match([h], 1).hashes for h in (5, 6, 1, 2, 9)] == [[5], [], [1], [2], [9]]


def test_blocks_in_use_are_not_evicted():
    """A sequence that runs keeps its blocks, and another gets none."""
    kv = KvCache(2, 16)
    fill(kv, [1, 2])
    assert not kv.reserve(Lease(), 1)
    assert kv.available == 0


def test_a_refused_reservation_changes_nothing():
    """All or nothing: no block is evicted for a sequence that does not fit."""
    kv = KvCache(3, 16)
    kv.release(fill(kv, [1, 2]))
    assert not kv.reserve(Lease(), 64)
    assert kv.match([1, 2], 2).hashes == [1, 2]


def test_two_sequences_share_a_prefix():
    """A shared block counts once and is free when both have gone."""
    kv = KvCache(4, 16)
    first, second = fill(kv, [1, 2]), fill(kv, [1, 3])
    assert kv.usage == 3 / 4
    kv.release(first)
    assert kv.usage == 2 / 4
    kv.release(second)
    assert (kv.usage, kv.cached_blocks) == (0, 3)


def test_a_block_computed_twice_stays_private_the_second_time():
    """Two sequences that computed the same block at once hold two copies, of which one is cached."""
    kv = KvCache(4, 16)
    first, second = Lease(), Lease()
    for lease in (first, second):
        assert kv.reserve(lease, 16)
    kv.commit(first, [1], 16)
    kv.commit(second, [1], 16)
    assert (kv.available, kv.cached_blocks) == (2, 1)
    kv.release(second)
    assert (kv.available, kv.cached_blocks) == (3, 1)


def test_events_say_what_can_be_found():
    """Whoever follows the events knows the cache: stored with their parent, removed, cleared."""
    events: list[KvEvent] = []
    kv = KvCache(3, 16, events.append)
    lease = fill(kv, [1, 2])
    assert kv.reserve(lease, 48)
    kv.commit(lease, [1, 2, 3], 48)
    kv.release(lease)
    kv.release(fill(kv, [7]))
    kv.clear()
    assert events == [
        BlocksStored((1, 2), None),
        BlocksStored((3,), 2),
        BlocksRemoved((3,)),
        BlocksStored((7,), None),
        AllBlocksCleared(),
    ]


def test_a_stored_block_names_the_one_before_as_its_parent_even_if_that_was_cached_by_another():
    """The chain of an event is never broken by a block that was computed twice."""
    events: list[KvEvent] = []
    kv = KvCache(8, 16, events.append)
    one, two = Lease(), Lease()
    for lease in (one, two):
        assert kv.reserve(lease, 48)
    kv.commit(one, [1, 2], 32)
    kv.commit(two, [1, 2, 3], 48)
    assert events[1:] == [BlocksStored((3,), 2)]


@pytest.mark.parametrize("seed", range(5))
def test_blocks_are_neither_lost_nor_made(seed):
    """After any sequence of operations the blocks add up, and the events agree with the cache."""
    rng = random.Random(seed)
    known: set[int] = set()

    def follow(event):
        match event:
            case BlocksStored(hashes):
                assert not known & set(hashes)
                known.update(hashes)
            case BlocksRemoved(hashes):
                known.difference_update(hashes)

    kv = KvCache(20, 4, follow)
    leases: list[Lease] = []
    for _ in range(500):
        if leases and rng.random() < 0.4:
            kv.release(leases.pop(rng.randrange(len(leases))))
            continue
        hashes = [rng.randrange(3) * 100 + depth for depth in range(rng.randint(1, 6))]
        lease = kv.match(hashes, len(hashes))
        tokens = rng.randint(1, 24)
        if kv.reserve(lease, tokens):
            kv.commit(lease, hashes, tokens)
            leases.append(lease)
        else:
            kv.release(lease)
        assert len(known) == kv.cached_blocks
    for lease in leases:
        kv.release(lease)
    assert kv.available == kv.total
