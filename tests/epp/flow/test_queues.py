"""Bands, limits, eviction, and that nobody waits for ever."""

from __future__ import annotations

import random
from itertools import count

import pytest

from services.epp.flow.policies import Item
from services.epp.flow.queues import Band, Full, Limits, Queues


def item(number: int, priority: int = 0, **more: float) -> Item:
    return Item(number, priority, arrived=float(number), **more)  # type: ignore[arg-type]  # by name


def served(queues: Queues, most: int = 1000) -> list[int]:
    """Serve until nobody waits; return the ids in their order."""
    order: list[int] = []
    while len(order) < most and (first := queues.first()) is not None:
        queues.serve(first)
        order.append(first.id)
    return order


def strict(**more: object) -> Limits:
    return Limits(oldest_every=0, **more)  # type: ignore[arg-type]  # by name


def test_higher_priorities_go_first_and_arrival_decides_within_one():
    """Strict priority between the bands."""
    queues = Queues(strict())
    for number, priority in enumerate([0, -1, 5, 0, 5, -1]):
        queues.add(item(number, priority))
    assert served(queues) == [2, 4, 0, 3, 1, 5]
    assert (len(queues), queues.bytes) == (0, 0)


def test_one_dispatch_in_n_goes_to_who_waited_longest():
    """A low band under a higher one that never empties still moves."""
    queues, numbers = Queues(Limits(oldest_every=4)), count(100)
    queues.add(item(1, -1))
    queues.add(item(2, -1))
    order = []
    for _ in range(8):
        queues.add(item(next(numbers), 10))
        queues.serve(first := queues.first() or item(0))
        order.append(first.priority)
    assert order == [10, 10, 10, -1, 10, 10, 10, -1]


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        (strict(default=Band(max_requests=2)), 1),
        (strict(default=Band(max_bytes=20)), 10),
        (strict(max_requests=2), 1),
        (strict(max_bytes=20), 10),
    ],
)
def test_every_limit_refuses_what_is_over_it(limits, size):
    """In requests and bytes, of a band and of all; what was refused left no trace."""
    queues = Queues(limits)
    queues.add(item(1, bytes=size))
    queues.add(item(2, bytes=size))
    with pytest.raises(Full):
        queues.add(item(3, bytes=size))
    assert (len(queues), queues.bytes) == (2, 2 * size)
    queues.remove(item(1, bytes=size))
    queues.add(item(4, bytes=size))
    assert served(queues) == [2, 4]


def test_negative_priorities_have_a_template_of_their_own():
    """And a priority that is named has its own band."""
    limits = strict(negative=Band(max_requests=1), bands={5: Band(max_requests=2)})
    assert [limits.band(priority).max_requests for priority in (-3, 0, 5)] == [1, 5000, 2]
    assert strict().band(-3) == strict().default


def test_at_the_common_limit_the_newest_sheddable_requests_go():
    """From the lowest band up, and only for a higher priority."""
    queues = Queues(strict(max_requests=4))
    for number, priority in enumerate([-1, -2, -2, 0]):
        queues.add(item(number, priority))
    assert [victim.id for victim in queues.add(item(10, 7))] == [2]
    assert [victim.id for victim in queues.add(item(11, -1))] == [1]
    assert [victim.id for victim in queues.add(item(12, 0))] == [11]
    assert [victim.id for victim in queues.add(item(13, 0))] == [0]
    with pytest.raises(Full):
        queues.add(item(14, 100))
    assert served(queues) == [10, 3, 12, 13]


def test_nobody_is_evicted_when_it_would_not_help():
    """A request that is too large for the queue drives out none of those that fit."""
    queues = Queues(strict(max_bytes=10))
    queues.add(item(1, -1, bytes=5))
    with pytest.raises(Full):
        queues.add(item(2, 0, bytes=11))
    assert len(queues) == 1


def test_a_request_that_left_is_gone_once():
    """Leaving twice, or after being served, changes nothing."""
    queues = Queues(strict())
    queues.add(first := item(1))
    assert queues.remove(first)
    assert not queues.remove(first)
    assert queues.first() is None


@pytest.mark.parametrize("seed", range(20))
def test_the_counts_are_right_whatever_happens(seed):
    """Random arrivals, departures and turns against a plain list."""
    chance, queues = random.Random(seed), Queues(Limits(max_requests=30, oldest_every=3))
    alive: dict[int, Item] = {}
    for number in range(400):
        if chance.random() < 0.5:
            new = item(number, chance.choice([-2, -1, 0, 3]), bytes=chance.randrange(50))
            try:
                for victim in queues.add(new):
                    assert alive.pop(victim.id).priority < min(0, new.priority)
                alive[number] = new
            except Full:
                assert len(alive) == 30
        elif alive and chance.random() < 0.3:
            gone = alive.pop(chance.choice(list(alive)))
            assert queues.remove(gone)
        elif (first := queues.first()) is not None:
            queues.serve(first)
            del alive[first.id]
        assert {waiting.id for waiting in queues} == alive.keys()
        assert (len(queues), queues.bytes) == (len(alive), sum(waiting.bytes for waiting in alive.values()))
