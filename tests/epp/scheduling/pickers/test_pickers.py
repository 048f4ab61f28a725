"""Pickers: a choice and its fallbacks, the same under the same seed."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from services.epp.scheduling.interfaces import Picker
from services.epp.scheduling.pickers.max_score import MaxScore
from services.epp.scheduling.pickers.power_of_two import PowerOfTwo
from services.epp.scheduling.pickers.random_order import Random
from services.epp.scheduling.pickers.weighted_random import WeightedRandom
from tests.epp.scheduling.world import situation

PICKERS: list[type[MaxScore | PowerOfTwo | Random | WeightedRandom]] = [
    MaxScore,
    PowerOfTwo,
    Random,
    WeightedRandom,
]
TOTALS = [1.0, 3.0, 2.0, 0.0]
DRAWS = 4000


def firsts(picker: Picker, totals: list[float], seed: int = 1) -> Counter[int]:
    rng = random.Random(seed)
    return Counter(picker.pick(situation(), totals, rng)[0] for _ in range(DRAWS))


@pytest.mark.parametrize("kind", PICKERS)
@pytest.mark.parametrize("most", [1, 2, 3, 9])
def test_every_picker_names_so_many_candidates_none_twice(kind, most):
    """Fewer only when there are fewer."""
    picked = kind(most).pick(situation(), TOTALS, random.Random(3))

    assert len(set(picked)) == len(picked) == min(most, len(TOTALS))
    assert set(picked) <= set(range(len(TOTALS)))


@pytest.mark.parametrize("kind", PICKERS)
def test_a_single_candidate_is_picked(kind):
    """Whatever its score."""
    assert list(kind().pick(situation(), [0.0], random.Random(1))) == [0]


@pytest.mark.parametrize("kind", PICKERS)
def test_the_same_seed_gives_the_same_choices(kind):
    """All chance comes from the argument."""
    assert firsts(kind(), [1.0] * 8, seed=7) == firsts(kind(), [1.0] * 8, seed=7)


@pytest.mark.parametrize("kind", PICKERS)
def test_naming_nobody_is_refused(kind):
    """With the name of the file."""
    with pytest.raises(ValueError, match="maxNumOfEndpoints must be at least 1, got 0"):
        kind(0)


def test_max_score_takes_them_in_order_and_ties_by_chance():
    """The order of the list says nothing."""
    assert list(MaxScore().pick(situation(), TOTALS, random.Random(1))) == [1, 2, 0]
    ties = firsts(MaxScore(), [1.0, 1.0, 0.0])
    assert set(ties) == {0, 1}
    assert abs(ties[0] - ties[1]) < 300  # five sigma


def test_weighted_random_draws_in_proportion():
    """1 : 3 : 2, and never a 0 while there is another."""
    shares = firsts(WeightedRandom(), TOTALS)

    assert shares[3] == 0
    for position, expected in ((0, 1 / 6), (1, 3 / 6), (2, 2 / 6)):
        assert abs(shares[position] / DRAWS - expected) < 0.04


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0])
def test_weighted_random_does_not_underflow(scale):
    """Tiny totals keep their proportions."""
    shares = firsts(WeightedRandom(), [scale, 3 * scale])

    assert abs(shares[1] / DRAWS - 0.75) < 0.04


def test_weighted_random_without_any_weight_is_plain_chance():
    """And zeros serve as fallbacks."""
    shares = firsts(WeightedRandom(), [0.0, 0.0])
    assert abs(shares[0] / DRAWS - 0.5) < 0.04

    assert list(WeightedRandom().pick(situation(), [0.0, 1.0], random.Random(1))) == [1, 0]


def test_random_does_not_look_at_scores():
    """Each a quarter."""
    shares = firsts(Random(), TOTALS)

    assert all(abs(shares[position] / DRAWS - 0.25) < 0.04 for position in range(4))


def test_power_of_two_takes_the_better_of_a_random_pair():
    """Of four: the best one in half of the pairs, the next in a third, then a sixth, the worst never."""
    shares = firsts(PowerOfTwo(), TOTALS)

    assert shares[3] == 0
    for position, expected in ((1, 1 / 2), (2, 1 / 3), (0, 1 / 6)):
        assert abs(shares[position] / DRAWS - expected) < 0.04


def test_power_of_two_falls_back_to_the_other_of_the_pair_and_then_to_the_best():
    """Two in order, then whoever is best of the rest."""
    rng = random.Random(5)
    for _ in range(50):
        first, second, third = PowerOfTwo().pick(situation(), TOTALS, rng)
        assert TOTALS[first] >= TOTALS[second]
        rest = set(range(4)) - {first, second}
        assert TOTALS[third] == max(TOTALS[position] for position in rest)
