"""The formula: each part does what the page says, and nothing jumps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from services.epp.cost.estimate import Job, Prices, estimate, gain
from services.epp.cost.pace import Pace
from services.epp.cost.typical import Typical
from services.epp.inflight import Load
from tests.epp.scheduling.world import NOW, server

JOB = Job(prompt_tokens=1600, output_tokens=100, cached={}, now=NOW)
PATIENCE = Prices().patience
ALONE = PATIENCE * (0.002 + 1600 / 8000) + 100 * 0.006
CONTEXT = 39e-9


def cost(job: Job = JOB, *, load: Load | None = None, pace: Pace | None = None, **metrics: Any) -> float:
    """Return the cost at one server."""
    servers = [server(0, **metrics)]
    return estimate(
        job, servers, [load or Load()], [pace or Pace()], Typical(), Prices(foresight=0, handling=0)
    )[0]


def costs(
    *counts: int, job: Job = JOB, paces: Sequence[Pace] = (), typical: Typical | None = None, **prices: float
) -> list[float]:
    """Return the costs at servers with so many requests."""
    servers, loads = [server(slot) for slot in range(len(counts))], [Load(requests=count) for count in counts]
    paces = paces or [Pace() for _ in counts]
    return estimate(
        job, servers, loads, paces, typical or Typical(), Prices(**({"foresight": 0, "handling": 0} | prices))
    )


def test_an_idle_server_costs_the_prompt_and_the_answer():
    """At the prior's speed: a step, 1,600 prompt tokens at 8,000 a second, and 100 tokens at 6 ms. Those count once."""
    assert cost() == pytest.approx(ALONE)


def test_what_is_cached_is_not_computed():
    """Three quarters of the prompt."""
    job = Job(1600, 100, {0: 1200}, NOW)
    assert cost(job) == pytest.approx(ALONE - PATIENCE * 1200 / 8000)


def test_prompts_before_it_have_to_be_waited_for():
    """Until they are done, and the batch's share of the step besides; what has not begun yet is joined."""
    one, step = Load(requests=1), 0.00035
    idle = cost(load=one)
    queued = cost(load=one, pace=Pace(busy_until=NOW + 2, begins=NOW))
    joined = cost(load=one, pace=Pace(busy_until=NOW + 2, begins=NOW + 0.1))
    behind = (
        2 * (1 / 4) * 1600 / 8000
    )  # a request in 4 s comes, here or elsewhere, and 2 s are two quarters of it

    assert queued - idle == pytest.approx(PATIENCE * (2 + behind - (0.006 + step) / 2), rel=0.02)
    assert queued - joined == pytest.approx(PATIENCE * step, rel=0.1)
    assert cost(load=one, pace=Pace(busy_until=NOW - 2)) == pytest.approx(idle)


def test_who_comes_behind_a_prompt_waits_for_it_where_there_is_a_queue():
    """With one request in 4 s for each server, a long prompt makes more wait than a short one."""
    short, long = Job(80, 100, {}, NOW), Job(8000, 100, {}, NOW)
    quiet, queue = Pace(), Pace(busy_until=NOW + 4, begins=NOW)
    extra = [
        costs(1, job=job, paces=[queue])[0] - costs(1, job=job, paces=[quiet])[0] for job in (short, long)
    ]

    assert extra[1] - extra[0] == pytest.approx(PATIENCE * 4 / 4 * 7920 / 8000, rel=0.01)


def test_what_waits_there_for_others_counts_too_and_grows_old():
    """A typical prompt each, less the time since the server said so."""
    lone = Load(requests=0)
    job = Job(0, 100, {}, NOW)
    none = cost(job, load=lone, running=8)
    young = cost(job, load=lone, waiting=8) - none
    old = cost(job, load=lone, waiting=8, scraped_at=NOW - 0.3) - none
    half_a_step = (0.006 + 3 * 8 * 0.00035) / 2

    assert young == pytest.approx(PATIENCE * (8 * 500 / 8000 - half_a_step), rel=0.02)
    assert young - old == pytest.approx(PATIENCE * 0.3)


def test_a_batch_costs_its_requests_time_and_the_newcomer_takes_time_from_them():
    """Ten: a slower step for both sides, for half of the answer on the others', and the pause for the prompt."""
    stalls = 10 * 1600 / 8000
    own, theirs = 100 * 10 * 0.00035, 10 * 50 * (0.00035 + 1700 * CONTEXT)
    wait = (0.006 + 3 * 10 * 0.00035) / 2

    assert cost(running=10) == pytest.approx(
        ALONE + PATIENCE * wait * (1 + 0.2 * 10 / 4) + own + theirs + stalls, rel=0.01
    )


def test_a_request_that_was_just_sent_counts_like_one_that_the_server_reports():
    """The load is the larger of what it says, corrected, and what is in flight from here."""
    assert cost(load=Load(requests=5, unseen=5)) == pytest.approx(cost(running=5))
    assert cost(load=Load(requests=5), running=5) == pytest.approx(cost(running=5))
    assert cost(load=Load(finished=3), running=8) == pytest.approx(cost(running=5))


def test_long_contexts_slow_a_batch_down_more():
    """Each step reads them all."""
    job = Job(0, 100, {}, NOW)
    more = cost(job, load=Load(requests=2, context_tokens=90_000)) - cost(job, load=Load(requests=2))
    step = 90_000 * CONTEXT

    assert more == pytest.approx(100 * step + PATIENCE * 1.5 * step)


def test_small_differences_between_batches_even_out_and_large_ones_last():
    """With hundreds of requests everywhere, one more hardly counts; three times as many count nearly in full."""
    job = Job(0, 100, {}, NOW)
    each = 100 * 0.00035 + 50 * (0.00035 + 100 * CONTEXT)
    by_chance = costs(100, 101, job=job, patience=0)
    by_affinity = costs(100, 300, job=job, patience=0)

    assert 0 < by_chance[1] - by_chance[0] < 0.05 * each
    assert by_affinity[1] - by_affinity[0] > 0.7 * 200 * each


def test_a_prompt_that_is_not_usual_goes_where_it_stops_fewest():
    """What all prompts do to a batch evens out; a long one's pause is counted for every request that it stops."""
    typical = Typical(uncached_tokens=100)
    few, many = costs(99, 101, job=Job(40_000, 1, {}, NOW), typical=typical, patience=0)

    assert many - few > 0.9 * 2 * (40_000 - 400) / 8000


def test_an_idle_server_beats_a_warm_one_when_the_queue_there_is_longer_than_the_prompt():
    """Else the warm one wins: seconds against seconds."""
    job = Job(2000, 100, {0: 1900}, NOW)

    def warm_wins(queue: float) -> bool:
        warm, cold = costs(1, 1, job=job, paces=[Pace(busy_until=NOW + queue, begins=NOW), Pace()])
        return warm < cold

    assert warm_wins(0.1)
    assert not warm_wins(0.6)


def test_a_full_cache_makes_a_request_wait_and_a_nearly_full_one_does_not_jump():
    """What is missing of the cache, in typical requests' time."""
    usages = [use / 1000 for use in range(1001)]
    found = [cost(kv_usage=use, num_blocks=1000, block_size=16) for use in usages]

    assert found[0] == pytest.approx(ALONE)
    assert found[-1] == pytest.approx(ALONE + PATIENCE * 1700 / 16_000 * Typical().seconds)
    assert max(after - before for before, after in itertools.pairwise(found)) < 0.015


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
    assert cost(job, max_adapters=2) == pytest.approx(ALONE + PATIENCE * 0.2)
    assert cost(job, max_adapters=2, active_adapters=full) == pytest.approx(
        ALONE + PATIENCE * (0.2 + Typical().seconds)
    )


def busy(share: float, servers: int = 2) -> Typical:
    """Return a pool whose servers spend `share` of their time on prompts."""
    return Typical(prompts=share * servers, prompts_at=NOW)


def test_prompts_weigh_more_in_a_busy_pool_also_at_its_idle_server():
    """Soon it will have others to hold up: else every sibling of a burst would get a server of its own."""
    servers, loads, paces = [server(0), server(1)], [Load(), Load(requests=10)], [Pace(), Pace()]
    alone = estimate(JOB, servers, loads, paces, busy(0.2), Prices(foresight=0, handling=0))[0]
    shared = estimate(JOB, servers, loads, paces, busy(0.2), Prices(foresight=0.5, handling=0))[0]

    assert shared - alone == pytest.approx(0.5 * (5 * 0.2) ** 0.5 * 1600 / 8000)


def test_a_copy_costs_no_more_than_its_own_time_where_no_prompts_are_computed():
    """However many answers are under way: a GPU that computes no prompts has nothing to lose by one."""
    servers, loads, paces = [server(0), server(1)], [Load(), Load(requests=10)], [Pace(), Pace()]
    none, some = (
        estimate(JOB, servers, loads, paces, busy(0), Prices(foresight=foresight))[0] for foresight in (0, 2)
    )

    assert none == some


AT_HOME = [Pace(usual=1.0), Pace(usual=3.0)]


@pytest.mark.parametrize(
    ("alone", "cached", "apart"),
    [
        (0.8, {}, True),
        (0.8, {1: 700.0}, True),
        (0.8, {1: 1600.0, 0: 1600.0}, False),  # it goes on, and is at home already
        (0.0, {}, False),  # nobody comes back in this pool
    ],
)
def test_a_conversation_begins_where_few_others_will_come_back(alone, cached, apart):
    """Now both have one request. Two more pause at the second, and will be back when this one has its next turns."""
    typical, job = Typical(again=alone), Job(1600, 100, cached, NOW)
    first, second = costs(1, 1, job=job, paces=AT_HOME, typical=typical)
    same = costs(1, 1, job=job, typical=typical)

    assert (second - first > same[1] - same[0]) is apart


def test_a_turn_that_is_longer_than_all_before_begins_nothing():
    """It belongs where its conversation is, also while less than half of it is known there."""
    job = Job(1600, 100, {1: 400.0}, NOW, goes_on=True)

    assert costs(0, 0, job=job, paces=AT_HOME, typical=Typical(again=0.8)) == costs(
        0, 0, job=job, typical=Typical(again=0.8)
    )


def test_who_is_at_home_weighs_by_the_turns_to_come():
    """Four of five tokens were there: four more turns, each among two more that have 500 tokens to compute."""
    typical = Typical(again=0.8)
    first, second = costs(1, 1, paces=AT_HOME, typical=typical, burden=0)
    answer = typical.output_tokens * (0.00035 + typical.context_tokens * CONTEXT)

    assert second - first == pytest.approx(4 * 2 * (answer + 500 / 8000))


def test_a_slow_server_is_home_to_fewer():
    """At half the speed two requests are in each other's way as much as four."""
    slow = Pace(usual=2.0, prefill=2 / 8000, sequence=2 * 0.00035, context=2 * CONTEXT)

    def added(usual: float) -> list[float]:
        paces = [slow, Pace(usual=usual)]
        found, without = costs(0, 0, paces=paces, typical=Typical(again=0.8)), costs(0, 0, paces=paces)
        return [a - b for a, b in zip(found, without, strict=True)]

    assert added(4.0) == pytest.approx([0, 0])
    assert added(2.0)[0] > added(2.0)[1] == pytest.approx(0)


@pytest.mark.parametrize(
    ("running", "paused", "displaced"), [(0, 0, 0), (4000, 3000, 0), (4000, 5000, 700), (9999, 9999, 1700)]
)
def test_what_goes_on_and_has_to_leave_the_cache_will_be_computed_again(running, paused, displaced):
    """A cache of 10,000 tokens and a request of 1,700, with its answer: no more than its own size can be in its way."""
    pace, load = Pace(paused_tokens=paused), Load(context_tokens=running)
    found = [
        estimate(
            JOB,
            [server(0, block_size=10, num_blocks=1000)],
            [load],
            [pace],
            Typical(again=alone),
            Prices(handling=0),
        )[0]
        for alone in (0.0, 0.5)
    ]

    assert found[1] - found[0] == pytest.approx(0.5 * PATIENCE * displaced / 8000)


def test_siblings_of_a_burst_share_a_server_the_more_the_less_is_idle():
    """The prompt is at the first server, which is still computing it for the six others; another server has nothing."""
    job, loads = Job(5000, 100, {0: 4900}, NOW), [Load(requests=6, context_tokens=30_000), Load()]
    paces, servers = [Pace(busy_until=NOW + 0.6, begins=NOW + 0.6), Pace()], [server(0), server(1)]

    def moves(share: float) -> bool:
        there, elsewhere = estimate(job, servers, loads, paces, busy(share), Prices())
        return elsewhere < there

    assert moves(0.01)
    assert not moves(0.5)


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
    pool = busy(0.3, servers=3)
    one = estimate(Job(1600, 100, {0: 1600}, NOW), servers, loads, paces, pool, Prices())[2]
    two = estimate(Job(1600, 100, {0: 1600, 1: 1600}, NOW), servers, loads, paces, pool, Prices())[2]

    stalls, later = 5 * Prices().burden, (5 * 0.3) ** 0.5 * Prices().foresight

    assert one - two == pytest.approx(0.5 * 1600 / 8000 * (stalls + later))


def test_on_a_fast_pool_requests_still_count():
    """Where speed leaves no difference, a prompt that everybody shares is computed at a second server before long."""
    fast = Pace(first=0.0005, prefill=4e-6, step=0.0003, sequence=2e-5, context=0.0)
    servers, job = [server(slot) for slot in range(2)], Job(1_100, 16, {0: 750.0}, NOW)

    def at(count: int) -> list[float]:
        return estimate(
            job, servers, [Load(requests=count), Load()], [fast, fast], Typical(seconds=0.02), Prices()
        )

    assert at(0)[0] < at(0)[1], "alone, a conversation stays"
    assert at(6)[0] > at(6)[1], "six others spread"
