"""A sum that learns: it finds other hardware in a few measurements, then what the hardware is fast at."""

from __future__ import annotations

import random

import pytest

from services.epp.cost.terms import Terms

PRIOR = (0.01, 1 / 8000, 0.006, 0.00035)


def asked(rng: random.Random) -> tuple[float, ...]:
    """One request: prompt tokens, tokens of the answer, and these times the batch."""
    prompt, answer = rng.randint(50, 4000), rng.randint(20, 400)
    return (1.0, prompt, answer, answer * rng.randint(1, 40))


@pytest.mark.parametrize("truth", [(0.01, 1 / 16_000, 0.006, 0.00035), (0.01, 1 / 8000, 0.012, 0.0002)])
def test_it_finds_the_rates_behind_totals(truth):
    """From sums alone, and through noise."""
    terms, rng = Terms(PRIOR), random.Random(1)
    for _ in range(2000):
        x = asked(rng)
        terms.learn(x, sum(rate * each for rate, each in zip(truth, x, strict=True)) * rng.uniform(0.9, 1.1))

    for x in ((0.0, 4000.0, 0.0, 0.0), (0.0, 0.0, 100.0, 1000.0)):
        assert terms(x) == pytest.approx(sum(a * b for a, b in zip(truth, x, strict=True)), rel=0.35)


@pytest.mark.parametrize("speed", [0.02, 50.0])
def test_other_hardware_is_found_in_a_few_measurements(speed):
    """Within a factor of two after twenty, and about in the prior's proportions; a network is no faster for it."""
    terms, rng = Terms(PRIOR), random.Random(2)
    truth = (PRIOR[0], *[rate / speed for rate in PRIOR[1:]])
    for _ in range(20):
        x = asked(rng)
        terms.learn(x, sum(rate * each for rate, each in zip(truth, x, strict=True)))

    moved = [rate / was for rate, was in zip(terms.rates, PRIOR, strict=True)]
    assert moved == pytest.approx([1.0, *[moved[1]] * 3], rel=0.1)
    assert 0.5 < terms.rates[1] / truth[1] < 2


def test_fast_hardware_makes_no_network_faster():
    """Small prompts that take a fifth of a millisecond, and 8 ms on their way: the way is never taken for less."""
    terms, rng = Terms((0.002, 1 / 8000)), random.Random(3)
    lowest = min(_way_after(terms, rng.randint(50, 200)) for _ in range(4000))

    assert lowest >= 0.0019
    assert terms.rates[0] == pytest.approx(0.008, rel=0.2)


def _way_after(terms: Terms, tokens: int) -> float:
    terms.learn((1.0, tokens), 0.008 + tokens / 400_000)
    return terms.rates[0]


def test_one_hiccup_moves_little():
    """A thousand times too long counts as four times."""
    terms, x = Terms(PRIOR), (1.0, 1000.0, 100.0, 1000.0)
    for _ in range(100):
        terms.learn(x, 1.1)
    before = terms(x)
    terms.learn(x, 1100.0)

    assert terms(x) < 1.1 * before


def test_what_takes_no_time_does_not_become_nothing():
    """Rates stay positive, and can come back."""
    terms, x = Terms(PRIOR), (1.0, 1000.0, 100.0, 1000.0)
    for _ in range(500):
        terms.learn(x, 0.0)
    low = terms(x)
    for _ in range(500):
        terms.learn(x, 1.0)

    assert 0 < low < 0.001
    assert terms(x) == pytest.approx(1.0, rel=0.05)


def test_only_what_was_part_of_a_measurement_moves():
    """First tokens say nothing of the steps after them."""
    terms = Terms(PRIOR)
    for _ in range(50):
        terms.learn((1.0, 500.0, 0.0, 0.0), 1.0)

    assert terms.rates[2:] == PRIOR[2:]
    assert terms.rates[1] > 2 * PRIOR[1]
