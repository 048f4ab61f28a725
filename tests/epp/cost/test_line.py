"""A line that learns: it finds the truth, forgets the past, and keeps its shape where nothing is told."""

from __future__ import annotations

import random

import pytest

from services.epp.cost.line import Line


@pytest.mark.parametrize(("at_zero", "slope"), [(0.01, 1 / 8000), (0.002, 1 / 400_000), (0.3, 1 / 900)])
def test_it_finds_another_line_whatever_the_prior(at_zero, slope):
    """Fifty times faster or slower than assumed."""
    line, rng = Line(0.01, 1 / 8000), random.Random(1)
    for _ in range(400):
        x = rng.uniform(0, 4000)
        line.learn(x, (at_zero + slope * x) * rng.uniform(0.8, 1.25))

    assert line(0) == pytest.approx(at_zero, rel=0.25)
    assert line(4000) == pytest.approx(at_zero + slope * 4000, rel=0.15)


def test_it_gets_there_in_a_few_measurements():
    """A hundred times faster than assumed: within a factor of two after ten."""
    line = Line(0.01, 1 / 8000)
    for _ in range(10):
        line.learn(1000, 0.00135)

    assert line(1000) < 0.0027


def test_equal_x_keep_the_proportion():
    """Where all measurements are alike, only the scale is learnt."""
    line = Line(1.0, 0.1)
    for _ in range(300):
        line.learn(10, 6.0)

    assert line(10) == pytest.approx(6.0, rel=0.02)
    assert line.at_zero / line.slope == pytest.approx(10, rel=0.05)


def test_one_hiccup_moves_little():
    """A measurement counts as at most four times off."""
    line = Line(1.0, 0.1)
    for _ in range(100):
        line.learn(10, 2.0)
    line.learn(10, 1e9)

    assert line(10) < 2.2


def test_the_past_is_forgotten():
    """Two hundred measurements are enough for a new truth."""
    line = Line(1.0, 0.1)
    for y in [2.0] * 300 + [6.0] * 200:
        line.learn(10, y)

    assert line(10) == pytest.approx(6.0, rel=0.25)


def test_work_never_looks_free():
    """Neither part goes below a tenth of its share, whatever noise says."""
    line, rng = Line(1.0, 0.1), random.Random(2)
    for _ in range(500):
        x = rng.uniform(0, 100)
        line.learn(x, 50.0 / (1 + x))

    assert line.slope > 0
    assert line.at_zero > 0


@pytest.mark.parametrize("y", [0.0, 1e12])
def test_nonsense_stays_within_bounds(y):
    """Ten thousand times the prior at most, and never nothing."""
    line = Line(1.0, 0.1)
    for _ in range(1000):
        line.learn(10, y)

    assert 1e-5 < line(10) < 1e5
