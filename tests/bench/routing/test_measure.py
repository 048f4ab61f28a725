"""Sums of known outcomes."""

from __future__ import annotations

import dataclasses

import pytest

from bench.routing.fleet import CHAT_8B
from bench.routing.measure import ideal_hits, measure, meets
from bench.routing.turns import Exchange, conversation
from bench.routing.world import Outcome

TWO = dataclasses.replace(CHAT_8B, servers=2)


def turn(number=1, *, tokens=800, answer=101, system=(), objective=""):
    exchange = Exchange([(number, tokens)], (number + 10_000, answer))
    return conversation(number, list(system), [exchange], objective=objective)


def outcome(number=1, *, server=0, started=0.0, ttft=0.1, seconds=1.1, cached=0, **more):
    return Outcome(turn(number, **more), server, started, ttft, seconds, cached)


def test_warm_up_and_drain_are_left_out():
    """Of a request a second, the first quarter waits for ever, and so does what comes after the last arrival."""
    slow = [outcome(n, started=float(n), ttft=100.0, seconds=101.0) for n in (*range(25), *range(100, 120))]
    rest = [outcome(n, started=float(n), ttft=n / 1000, seconds=n / 1000 + 1.0) for n in range(25, 100)]
    row = measure(rest + slow, TWO, 99.0)

    assert row.requests == 75
    assert (row.ttft_p50, row.ttft_p90, row.ttft_p99) == (62.0, 92.0, 99.0)
    assert row.tpot_p50 == row.tpot_p99 == 10.0


def test_hits_and_imbalance_are_shares():
    """Half of each prompt cached; three of four at one server."""
    outcomes = [outcome(n, started=float(n), cached=400, server=0 if n % 4 else 1) for n in range(100)]
    row = measure(outcomes, TWO, 99.0)

    assert row.hits == 0.5
    assert row.imbalance == pytest.approx(1.52)
    assert row.ideal_hits == 0


def test_throughput_counts_tokens_that_came_while_requests_came():
    """One request of 101 tokens a second, each a second long."""
    row = measure([outcome(n, started=float(n), seconds=1.0) for n in range(100)], TWO, 99.0)

    assert row.throughput == pytest.approx(101, rel=0.02)
    assert row.keeping_up == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize(
    ("ttft", "per_token", "good"), [(0.69, 0.05, True), (0.71, 0.05, False), (0.1, 0.051, False)]
)
def test_a_request_is_in_time_by_its_first_token_and_its_pace(ttft, per_token, good):
    """Half a second and twice the 100 ms that its own prompt takes; 50 ms a token."""
    one = outcome(ttft=ttft, seconds=ttft + 100 * per_token - 1e-9)

    assert meets(one, TWO) is good


def test_refused_requests_have_no_times_but_miss_the_objectives():
    """By class."""
    served = [outcome(n, started=float(n), objective="interactive") for n in range(50)]
    refused = [Outcome(turn(n, objective="bulk"), -1, float(n)) for n in range(50, 100)]
    row = measure(served + refused, TWO, 99.0)

    assert row.goodput == pytest.approx(25 / 75, abs=1e-5)
    assert row.shed == {"bulk": 1.0, "interactive": 0.0}
    assert row.ttft_p99 == 100.0


def test_an_endless_cache_finds_what_was_there_before_but_never_the_last_token():
    """A repeated prompt, and one that shares its beginning."""
    system = [(77, 320)]
    turns = [
        turn(1, tokens=160, system=system),
        turn(1, tokens=160, system=system),
        turn(2, tokens=160, system=system),
    ]

    assert ideal_hits(turns) == [0, 464, 320]
