"""The formula: each part does what the page says, and nothing jumps."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from services.epp.cost.estimate import Job, Prices, estimate, gain
from services.epp.cost.pace import Pace, Typical
from services.epp.inflight import Load
from tests.epp.scheduling.world import NOW, server

JOB = Job(prompt_tokens=1600, output_tokens=100, cached={}, now=NOW)
ALONE = 0.01 + 1600 / 8000 + 100 * 0.006


def cost(job: Job = JOB, *, load: Load | None = None, pace: Pace | None = None, **metrics: Any) -> float:
    """Return the cost at one server."""
    servers = [server(0, **metrics)]
    return estimate(job, servers, [load or Load()], [pace or Pace()], Typical(), Prices(foresight=0))[0]


def test_an_idle_server_costs_the_prompt_and_the_answer():
    """Seconds at the prior's speed: a step, 1,600 prompt tokens at 8,000 a second, 100 tokens at 6 ms."""
    assert cost() == pytest.approx(ALONE)


def test_what_is_cached_is_not_computed():
    """Three quarters of the prompt."""
    job = Job(1600, 100, {0: 1200}, NOW)
    assert cost(job) == pytest.approx(ALONE - 1200 / 8000)


def test_prompts_before_it_have_to_be_waited_for():
    """Until they are done; never less than nothing."""
    assert cost(pace=Pace(busy_until=NOW + 2)) == pytest.approx(ALONE + 2)
    assert cost(pace=Pace(busy_until=NOW - 2)) == pytest.approx(ALONE)


def test_what_waits_there_for_others_counts_too_and_grows_old():
    """A typical prompt each, less the time since the server said so."""
    lone = Load(requests=0)
    young = cost(load=lone, waiting=8) - cost(load=lone, running=8)
    old = cost(load=lone, waiting=8, scraped_at=NOW - 0.3) - cost(load=lone, running=8)
    assert young == pytest.approx(8 * 500 / 8000)
    assert old == pytest.approx(young - 0.3)


def test_a_batch_costs_its_requests_time_and_the_newcomer_takes_time_from_them():
    """Each of ten: a slower step for both sides, and the pause while the prompt is computed."""
    prices, size = Prices(foresight=0), 1 + 1700 / 9000
    taken = 10 * (1600 / 8000 + 100 * 0.00035 * size)
    expected = ALONE + 100 * 0.00035 * 10 + prices.burden * taken
    assert cost(running=10) == pytest.approx(expected)


def test_a_request_that_was_just_sent_counts_like_one_that_the_server_reports():
    """The load is the larger of what it says, corrected, and what is in flight from here."""
    assert cost(load=Load(requests=5, unseen=5)) == pytest.approx(cost(running=5))
    assert cost(load=Load(requests=5), running=5) == pytest.approx(cost(running=5))
    assert cost(load=Load(finished=3), running=8) == pytest.approx(cost(running=5))


def test_long_contexts_slow_a_batch_down_more():
    """9,000 tokens of context are one sequence more."""
    more = cost(load=Load(requests=2, context_tokens=90_000)) - cost(load=Load(requests=2))
    assert more == pytest.approx(100 * 0.00035 * 10)


def test_a_full_cache_makes_a_request_wait_and_a_nearly_full_one_does_not_jump():
    """What is missing of the cache, in typical requests' time."""
    usages = [use / 1000 for use in range(1001)]
    costs = [cost(kv_usage=use, num_blocks=1000, block_size=16) for use in usages]

    assert costs[0] == pytest.approx(ALONE)
    assert costs[-1] == pytest.approx(ALONE + 1700 / 16_000 * Typical().seconds)
    assert max(after - before for before, after in itertools.pairwise(costs)) < 0.005


def test_failures_multiply():
    """As often as it must be tried."""
    assert cost(pace=Pace(attempts=3)) == pytest.approx(3 * ALONE)


def test_an_adapter_costs_its_load_where_it_is_not_and_a_wait_where_there_is_no_place():
    """Resident ones, by the server's word or by our own memory, cost nothing."""
    job = Job(1600, 100, {}, NOW, adapter="lora")
    remembered = Pace()
    remembered.adapters["lora"] = None
    full = frozenset({"x", "y"})

    assert cost(job, max_adapters=2, active_adapters=frozenset({"lora"})) == pytest.approx(ALONE)
    assert cost(job, pace=remembered, max_adapters=2, active_adapters=full) == pytest.approx(ALONE)
    assert cost(job, max_adapters=2) == pytest.approx(ALONE + 0.2)
    assert cost(job, max_adapters=2, active_adapters=full) == pytest.approx(ALONE + 0.2 + Typical().seconds)


def test_prompts_weigh_more_in_a_busy_pool_also_at_its_idle_server():
    """Soon it will have others to hold up: else every sibling of a burst would get a server of its own."""
    servers, loads, paces = [server(0), server(1)], [Load(), Load(requests=10)], [Pace(), Pace()]
    alone = estimate(JOB, servers, loads, paces, Typical(), Prices(foresight=0))[0]
    shared = estimate(JOB, servers, loads, paces, Typical(), Prices(foresight=0.5))[0]

    assert shared - alone == pytest.approx(0.5 * 5 * 1600 / 8000)


@pytest.mark.parametrize(
    ("cached", "expected"),
    [
        ({}, {}),
        ({0: 100.0}, {0: 0.0, -1: 0.0}),
        ({0: 100.0, 1: 100.0}, {0: 0.0, 1: 0.0, -1: 50.0}),
        (
            {0: 100.0, 1: 60.0, 2: 60.0, 3: 20.0},
            {0: 0.0, 1: 0.0, 2: 0.0, 3: 40 * 2 / 3, -1: 40 * 2 / 3 + 20 * 3 / 4},
        ),
    ],
)
def test_what_many_hold_is_worth_having(cached, expected):
    """The share 1 - 1/c of what c servers hold; a conversation that one server knows is worth nothing elsewhere."""
    assert gain(cached) == pytest.approx(expected)


def test_a_prefix_that_many_hold_is_copied_more_easily():
    """Its time is paid in full, what it takes from others is not."""
    servers = [server(slot, running=5) for slot in range(3)]
    loads, paces = [Load(requests=5)] * 3, [Pace()] * 3
    one = estimate(Job(1600, 100, {0: 1600}, NOW), servers, loads, paces, Typical(), Prices())[2]
    two = estimate(Job(1600, 100, {0: 1600, 1: 1600}, NOW), servers, loads, paces, Typical(), Prices())[2]

    assert one - two == pytest.approx(0.5 * 1600 / 8000 * 5 * (0.4 + 0.75))
