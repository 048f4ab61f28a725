"""The prefix index finds each server's longest contiguous prefix, and forgets within its bounds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Self

import pytest

from services.epp.prefix import SIZES, PrefixIndex
from services.epp.prefix_tree import Node
from services.openai.blocks import WIDTH, Blocks, pack


def chain(count: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(seed * 1_000_000 + position for position in range(count))


def test_sizes_follow_the_digest_and_grow():
    """A block's size depends on its position alone."""
    assert SIZES[0] == SIZES[63] == 64
    assert SIZES[64] == 128


def test_nothing_is_found_before_anything_is_recorded():
    """An empty index and an empty prompt match nobody."""
    index = PrefixIndex()
    index.record(0, chain(3))

    assert PrefixIndex().match(chain(3)) == {}
    assert index.match(()) == {}


def test_each_server_gets_its_own_longest_prefix():
    """Servers that hold less drop out of the walk where they end."""
    index = PrefixIndex()
    index.record(0, chain(5))
    index.record(1, chain(2))
    index.record(7, chain(5))

    assert index.match(chain(9)) == {0: 5, 1: 2, 7: 5}
    assert index.match(chain(4)) == {0: 4, 1: 2, 7: 4}


def test_a_block_after_a_gap_does_not_count():
    """A cache can only use a prefix without holes."""
    index = PrefixIndex()
    index.record(0, chain(2))
    index.record(0, chain(5)[3:], start=3, parent=chain(5)[2])
    assert index.match(chain(5)) == {0: 2}

    index.record(0, chain(4))
    assert index.match(chain(5))[0] >= 4
    assert index.size(0) == sum(SIZES[: index.match(chain(5))[0]])


def test_the_walk_stops_at_the_first_block_that_nobody_holds():
    """The cost of a miss does not depend on the prompt's length."""
    index = PrefixIndex()
    index.record(0, chain(2))
    prompt = Blocks(Counting(pack((*chain(2), *chain(500, seed=9)))))

    assert index.match(prompt) == {0: 2}
    assert Counting.reads <= 3


@pytest.mark.parametrize("known", [2, 100, 500])
def test_a_prompt_that_is_known_is_looked_up_in_as_many_steps_as_it_has_branches(known):
    """Nor does the cost of a hit."""
    index = PrefixIndex()
    index.record(0, chain(500))
    index.record(1, chain(known))
    prompt = Blocks(Counting(pack(chain(500))))

    assert index.match(prompt) == {0: 500, 1: known}
    assert Counting.reads <= 5


class Counting(bytes):
    reads = 0

    def __new__(cls, packed: bytes) -> Self:
        cls.reads = 0
        return super().__new__(cls, packed)

    def __getitem__(self, position: Any) -> Any:
        Counting.reads += 1
        return super().__getitem__(position)


def test_a_server_forgets_the_least_recent_prompt_beyond_its_cache():
    """The bound is in bytes of prompt."""
    index = PrefixIndex()
    index.resize(0, 64 * 4)
    index.record(0, chain(2, seed=1))
    index.record(0, chain(2, seed=2))
    index.record(0, chain(2, seed=1))  # used again, so the other one is older
    index.record(0, chain(1, seed=3))

    assert index.match(chain(2, seed=1)) == {0: 2}
    assert index.match(chain(2, seed=2)) == {0: 1}, "its end goes before its beginning"
    assert index.size(0) == 64 * 4


@pytest.mark.parametrize("end", ["freed", "record"])
def test_what_ended_last_is_forgotten_last(end):
    """A server gives away the blocks of what ended; the end of a prompt whose request is over counts as a use."""
    index = PrefixIndex()
    index.resize(0, 64 * 4)
    paused, other = chain(2, seed=1), chain(2, seed=2)
    index.record(0, paused)
    index.record(0, other)
    if end == "freed":
        index.freed(0, paused[-1])
    else:
        index.record(0, paused)
    index.record(0, chain(2, seed=3))

    assert index.match(paused) == {0: 2}
    assert index.match(other) == {}


def test_the_end_of_what_is_not_held_changes_nothing():
    """Another replica's request, whose prompt was forgotten here or never known."""
    index = PrefixIndex()
    index.record(0, chain(4))
    index.record(1, chain(2))
    for slot, tail in ((0, 77), (1, chain(4)[-1]), (5, chain(4)[-1]), (0, 0)):
        index.freed(slot, tail)

    assert index.match(chain(4)) == {0: 4, 1: 2}
    assert_sound(index, most=6)


def test_large_blocks_count_with_their_size():
    """Late blocks are bigger, and fill the cache faster."""
    index = PrefixIndex()
    index.resize(0, 64 * 64 + 128)
    index.record(0, chain(66))

    assert index.match(chain(66)) == {0: 65}


def test_a_smaller_cache_forgets_at_once_and_zero_means_unknown():
    """What a server reports bounds what is believed of it."""
    index = PrefixIndex(default_capacity=64 * 10)
    index.record(0, chain(20))
    assert index.match(chain(20)) == {0: 10}

    index.resize(0, 64 * 3)
    assert index.match(chain(20)) == {0: 3}
    index.resize(0, 0)
    index.record(0, chain(20))
    assert index.match(chain(20)) == {0: 10}


def test_a_server_that_left_is_forgotten_and_its_slot_is_clean():
    """A newcomer in the same slot does not inherit anything."""
    index = PrefixIndex()
    index.record(0, chain(3))
    index.record(1, chain(3))
    index.forget(0)
    index.forget(5)

    assert index.match(chain(3)) == {1: 3}
    index.forget(1)
    assert len(index) == 0
    assert index.size(1) == 0


def test_dropping_what_is_not_held_changes_nothing():
    """Taking back is safe when the LRU was faster."""
    index = PrefixIndex()
    index.drop(0, chain(2), 0)
    index.record(0, chain(1))
    index.drop(0, chain(2, seed=4), 0)

    assert index.match(chain(1)) == {0: 1}


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_the_obvious_way(seed):
    """Bit masks and one set for each server say the same, also across the width of a machine word."""
    rng = random.Random(seed)
    index = PrefixIndex()
    plain: dict[int, set[int]] = {}
    for _ in range(300):
        slot, prompt = rng.choice((0, 1, 5, 63, 64, 200)), tree(rng)
        if rng.random() < 0.1:
            index.forget(slot)
            plain.pop(slot, None)
        else:
            index.record(slot, prompt)
            plain.setdefault(slot, set()).update(prompt)
        asked = tree(rng)
        assert index.match(asked) == {s: n for s, held in plain.items() if (n := contiguous(asked, held))}


def tree(rng: random.Random) -> tuple[int, ...]:
    """Make a prompt whose blocks are shared with others up to a branch, as chained hashes are."""
    path: list[int] = []
    blocks: list[int] = []
    for _ in range(rng.randint(0, 8)):
        path.append(rng.randint(0, 1))
        blocks.append(hash(tuple(path)) % 2**64)
    return tuple(blocks)


def contiguous(prompt: tuple[int, ...], held: set[int]) -> int:
    count = 0
    while count < len(prompt) and prompt[count] in held:
        count += 1
    return count


def test_the_whole_is_bounded_and_the_largest_holder_pays():
    """A server with a huge cache does not take the memory of the others."""
    index = PrefixIndex(pairs=500)
    index.record(1, chain(40, seed=77))
    for seed in range(1, 60):
        index.record(0, chain(40, seed=seed))

    assert len(index) <= 500
    assert index.match(chain(40, seed=77)) == {1: 40}
    assert index.match(chain(40, seed=59)) == {0: 40}, "the newest stay"
    assert index.match(chain(40, seed=1)) == {}


def test_a_server_that_lost_its_cache_is_cleared_and_keeps_its_bound():
    """What it is sent afterwards is remembered again, within the same capacity."""
    index = PrefixIndex()
    index.resize(0, 64 * 3)
    index.record(0, chain(3))
    index.record(1, chain(3))
    index.clear(0)
    index.clear(9)
    assert index.match(chain(3)) == {1: 3}
    assert index.size(0) == 0

    index.record(0, chain(5, seed=2))
    assert index.match(chain(5, seed=2)) == {0: 3}


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_counts_right_whatever_happens(seed):
    """Random records, drops, clears and departures: the count of the whole is what is there."""
    rng, index = random.Random(seed), PrefixIndex(pairs=300)
    for _ in range(2000):
        slot, prompt = rng.randrange(6), chain(rng.randrange(40), rng.randrange(12))
        if rng.random() < 0.6:
            index.record(slot, prompt)
        elif rng.random() < 0.2:
            index.freed(slot, rng.choice(prompt or (0,)))
        elif rng.random() < 0.5:
            start = rng.randrange(len(prompt) + 1)
            index.record(slot, prompt[start:], start, prompt[start - 1] if start else 0)
        else:
            rng.choice((index.clear, index.forget, lambda s, p=prompt: index.drop(s, p, 0)))(slot)
        assert_sound(index, most=300)


def assert_sound(index: PrefixIndex, most: int) -> None:
    """Compare all counts with what is there; nobody holds the end of a prompt without its beginning."""
    nodes = list(index._tree._all())
    assert index._pairs == sum(node.mask.bit_count() * (node.end - node.start) for node in nodes) <= most
    assert index._pairs == sum(one.count for one in index._held.values())
    assert len(index) == sum(node.end - node.start for node in nodes)
    for node in nodes:
        assert node.mask == sum(1 << slot for slot in node.touched) > 0
        before = node.parent
        assert before is not None
        assert before is index._tree.root or node.mask & ~before.mask == 0
        assert len(node.blocks) == WIDTH * (node.end - node.start) > 0
    for slot, held in index._held.items():
        there = [node for node in nodes if slot in node.touched]
        assert held.size == sum(sum(SIZES[node.start : node.end]) for node in there)
        for node in there:
            assert any(_stands_for(slot, entry, node) for entry in held.order), (
                "what nothing stands for stays"
            )


def _stands_for(slot: int, entry: tuple[int, Node], node: Node) -> bool:
    time, at = entry[0], entry[1]
    while at.parent is not None and at.touched.get(slot) == time:
        if at is node:
            return True
        at = at.parent
    return False


class ByBlock:
    """What a server holds, one block at a time: each prompt moves its blocks to the end, its own end first."""

    def __init__(self, capacity: int) -> None:
        self.blocks: dict[int, int] = {}
        self.capacity = capacity

    def record(self, blocks: tuple[int, ...]) -> None:
        for position in range(len(blocks) - 1, -1, -1):
            self.blocks[blocks[position]] = self.blocks.pop(blocks[position], SIZES[position])
        while sum(self.blocks.values()) > self.capacity:
            del self.blocks[next(iter(self.blocks))]


def branch(rng: random.Random) -> tuple[int, ...]:
    """Walk down a tree of prompts."""
    path, blocks = "", []
    for _ in range(rng.randrange(1, 12)):
        path += rng.choice("aab")
        blocks.append(hash(path) % 2**64)
    return tuple(blocks)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("told", [False, True], ids=["here", "elsewhere"])
def test_runs_are_forgotten_as_blocks_would_be(seed, told):
    """Least recently used first, the end of a prompt before its beginning; also where only new blocks were told."""
    rng, capacity = random.Random(seed), 20 * SIZES[0]
    index, blocks = PrefixIndex(capacity), ByBlock(capacity)
    for _ in range(500):
        prompt = branch(rng)
        held = index.match(prompt).get(0, 0) if told else 0
        if told and held == len(prompt) and rng.random() < 0.5:
            index.freed(0, prompt[-1])
        else:
            index.record(0, prompt[held:], held, prompt[held - 1] if held else 0)
        blocks.record(prompt)
        assert set(held_by(index, 0)) == blocks.blocks.keys()
        assert index.size(0) == sum(blocks.blocks.values())


def held_by(index: PrefixIndex, slot: int) -> Iterator[int]:
    for node in index._tree._all():
        if slot in node.touched:
            yield from Blocks(node.blocks)


def test_hashes_that_are_not_chained_break_nothing():
    """They come from other processes: one block in many prompts, or twice in one."""
    rng, index = random.Random(1), PrefixIndex(default_capacity=64 * 50, pairs=120)
    for _ in range(3000):
        prompt = tuple(rng.randrange(60) for _ in range(rng.randrange(30)))
        rng.choice((index.record, index.record, index.drop))(rng.randrange(4), prompt, 0)
        assert_sound(index, most=120)
    for slot in range(4):
        index.forget(slot)
    assert len(index) == 0
