"""Conversations that pause: what they have in a cache counts, for as long as pauses are."""

from __future__ import annotations

import pytest

from services.epp.cost.pace import Pace
from services.epp.cost.pauses import LONGEST, Pauses
from services.epp.cost.typical import EXPECTED, Typical
from tests.epp.world import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def paces() -> list[Pace]:
    return [Pace(), Pace()]


@pytest.fixture
def typical() -> Typical:
    return Typical(pause=2.0)


@pytest.fixture
def pauses(paces: list[Pace], typical: Typical, clock: Clock) -> Pauses:
    return Pauses(paces, typical, clock)


def counted(paces: list[Pace]) -> list[int]:
    return [pace.paused_tokens for pace in paces]


def test_a_turn_that_ended_counts_at_its_server_until_the_next_one(pauses, paces):
    """By the last block of its prompt; what goes on elsewhere is not at home there any more."""
    pauses.begin(0, 11, 1000)
    pauses.begin(0, 12, 500)
    pauses.begin(1, 13, 200)
    assert counted(paces) == [1500, 200]
    pauses.end([7, 11])
    assert counted(paces) == [500, 200]


def test_the_same_prompt_again_is_one_conversation(pauses, paces):
    """It is where it was last."""
    pauses.begin(0, 11, 1000)
    pauses.begin(1, 11, 1200)

    assert counted(paces) == [0, 1200]


def test_what_does_not_go_on_within_most_pauses_is_not_expected(pauses, paces, clock):
    """Three mean pauses."""
    pauses.begin(0, 11, 1000)
    clock.now += EXPECTED * 2.0 - 0.1
    pauses.begin(0, 12, 500)
    pauses.expire()
    assert counted(paces)[0] == 1500
    clock.now += 0.2
    pauses.expire()
    assert counted(paces)[0] == 500


def test_how_long_pauses_are_is_learnt_from_those_that_end(pauses, typical, clock):
    """Also from longer ones than were expected: or a pool of slow readers would never be known as one."""
    for tail in range(300):
        pauses.begin(0, tail, 1)
        clock.now += 20.0
        pauses.expire()
        pauses.end([tail])

    assert typical.pause == pytest.approx(20.0, rel=0.01)


def test_nothing_is_remembered_for_ever(pauses, paces, clock):
    """An hour of requests that nobody continues, also where others decide and this replica only hears of it."""
    for tail in range(3600):
        pauses.begin(tail % 2, tail, 100)
        clock.now += 1.0
    assert len(pauses) <= LONGEST + 1
    clock.now += LONGEST + 1
    pauses.expire()
    assert len(pauses) == 0
    assert counted(paces) == [0, 0]


def test_a_server_that_lost_its_cache_has_nobody_at_home(pauses, paces, clock):
    """Neither those that are expected nor those that are only remembered."""
    pauses.begin(0, 11, 1000)
    clock.now += 10.0
    pauses.expire()
    pauses.begin(0, 12, 1000)
    pauses.begin(1, 13, 1000)
    pauses.forget(0)

    assert counted(paces) == [0, 1000]
    assert len(pauses) == 1
