"""How a server's factor is believed: by how much was measured, and how long ago."""

from __future__ import annotations

import itertools
import math

import pytest

from services.epp.cost.factor import DOUBT, HALF_LIFE, MOST, Factor


def after(count: int, ratio: float, weight: float = 1.0) -> Factor:
    """Return the factor after `count` measurements of `ratio`."""
    factor = Factor()
    for _ in range(count):
        factor.learn(ratio, weight)
    return factor


def test_unknown_is_as_fast_as_the_others():
    """Nothing measured, nothing to reckon with."""
    assert Factor().value == 1.0


def test_the_doubt_is_worth_so_many_measurements():
    """As many of a server at half speed move half of the way, in logarithms; many more, nearly all of it."""
    assert after(round(DOUBT), 2.0).log == pytest.approx(math.log(2) / 2)
    assert after(400, 2.0).value == pytest.approx(2.0, rel=0.01)


def test_half_a_measurement_counts_half():
    """Twice as many of them say the same."""
    assert after(8, 2.0, 0.5).log == pytest.approx(after(4, 2.0).log, rel=0.05)


def test_a_few_per_cent_are_taken_for_chance_and_a_lot_is_not():
    """Continuously: 2 % nearly vanish, double time stays nearly double."""
    small, large = Factor(math.log(1.02), MOST), Factor(math.log(2), MOST)
    values = [Factor(step / 1000, MOST).value for step in range(-700, 701)]

    assert small.value < 1.004
    assert large.value > 1.99
    assert values == sorted(values)
    assert max(b / a for a, b in itertools.pairwise(values)) < 1.002


def test_the_more_measurements_disagree_the_more_is_taken_for_chance():
    """A fifth slower each time is believed; by turns much slower and much faster, with the same mean, is not yet."""
    steady, wild = Factor(), Factor()
    for _ in range(20):
        steady.learn(1.2, 1.0)
    for ratio in (2.4, 0.6) * 10:
        wild.learn(ratio, 1.0)

    assert steady.value > 1.1
    assert 1.0 < wild.value < 1.05


def test_a_server_of_half_the_speed_is_known_among_wild_measurements():
    """They disagree by 40 % and more, and still say so together."""
    factor = Factor()
    for ratio in (3.0, 1.4) * 20:
        factor.learn(ratio, 1.0)

    assert factor.value > 1.6


def test_one_hiccup_moves_little_whatever_its_size():
    """An answer that took a thousand times as long counts as one that took four times as long."""
    assert after(1, 1000.0).log == after(1, 4.0).log < 0.2


def test_what_was_measured_long_ago_is_doubted():
    """In small steps as in one; in the end nothing is left."""
    once, often = after(100, 4.0), after(100, 4.0)
    once.age(HALF_LIFE)
    for _ in range(100):
        often.age(HALF_LIFE / 100)

    assert once.log == pytest.approx(often.log)
    assert once.weight == pytest.approx(MOST / 2, rel=0.01)
    once.age(20 * HALF_LIFE)
    assert once.value == pytest.approx(1.0, abs=1e-3)


def test_what_is_measured_often_hardly_fades():
    """A request in a second, a look in a fifth of one: within a tenth of the truth."""
    factor = Factor()
    for _ in range(120):
        factor.learn(2.0, 1.0)
        for _ in range(5):
            factor.age(0.2)

    assert factor.value > 1.7
