"""A pool knows its members, their readiness, and what moves with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.epp.endpoints import Endpoint, Metrics
from services.epp.inflight import Entry
from services.epp.pool import Pool, PoolLimits
from services.epp.records import Ended, EndOutcome
from tests.epp.world import Clock, address, digest, pool_of, text


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ready(pool: Pool) -> bool:
    return pool.snapshot.servers[0].ready


def reserve(pool: Pool, clock: Clock, number: int, blocks: Sequence[int] = (), name: str = "d") -> None:
    server = pool.get(address(number))
    assert server is not None
    pool.reserve(
        Entry(
            name,
            server.slot,
            clock(),
            prompt_tokens=1000,
            output_tokens=1,
            blocks=blocks,
            context_tokens=1000,
        )
    )


def test_a_snapshot_does_not_change(clock):
    """Readers keep a consistent view while the pool goes on."""
    pool = pool_of(2, clock)
    before = pool.snapshot
    pool.observe(address(0), Metrics(waiting=9, scraped_at=clock()))

    assert before.servers[0].metrics.waiting == 0
    assert pool.snapshot.servers[0].metrics.waiting == 9
    assert pool.snapshot is pool.snapshot, "and is built only when something changed"


def test_a_member_is_ready_after_its_first_scrape_and_until_it_misses_too_many(clock):
    """One lost packet does not empty a pool; silence does."""
    pool = Pool("p", clock=clock, limits=PoolLimits(misses=2))
    pool.set_members([Endpoint(address(0))])
    assert not ready(pool)
    pool.observe(address(0), Metrics())
    assert ready(pool)
    pool.miss(address(0))
    assert ready(pool)
    pool.miss(address(0))
    assert not ready(pool)
    pool.observe(address(0), Metrics())
    assert ready(pool), "and is ready again as soon as it answers"


def test_misses_must_be_in_a_row(clock):
    """An answer in between starts the count again."""
    pool = pool_of(1, clock, limits=PoolLimits(misses=2))
    for _ in range(3):
        pool.miss(address(0))
        pool.observe(address(0), Metrics())

    assert pool.snapshot.servers[0].ready


def test_a_pool_is_complete_when_every_member_was_looked_at(clock):
    """A failure is a result too: a dead server does not keep the picker from starting."""
    pool = Pool("p", clock=clock)
    assert not pool.complete, "membership is not known yet"
    pool.set_members([Endpoint(address(0)), Endpoint(address(1))])
    pool.observe(address(0), Metrics())
    assert not pool.complete
    pool.miss(address(1))
    assert pool.complete


def test_a_pool_without_metrics_is_complete_and_ready_at_once(clock):
    """There is nothing to wait for."""
    pool = Pool("p", clock=clock, scraped=False)
    pool.set_members([Endpoint(address(0))])

    assert pool.complete
    assert pool.snapshot.servers[0].ready


def test_membership_changes_keep_who_stays_and_reuse_slots(clock):
    """Slots are small numbers: masks stay narrow however many servers come and go."""
    pool = pool_of(3, clock)
    version = pool.version
    changed = pool.set_members([Endpoint(address(number)) for number in (0, 2, 7)])

    slots = {server.address: server.slot for server in pool.snapshot.servers}
    assert changed
    assert slots == {address(0): 0, address(2): 2, address(7): 1}
    assert pool.version == version + 1
    assert not pool.set_members([Endpoint(address(number)) for number in (7, 0, 2)])
    assert pool.version == version + 1


def test_a_newcomer_in_an_old_slot_inherits_neither_load_nor_prefix(clock):
    """The server that left is forgotten."""
    pool = pool_of(1, clock)
    blocks = digest(text(2000, 1)).blocks
    reserve(pool, clock, 0, blocks)
    pool.set_members([Endpoint(address(5))])

    assert pool.prefixes.match(blocks) == {}
    assert pool.inflight.loads[0].requests == 0
    assert not pool.release("d")


def test_a_reported_cache_size_bounds_the_prefix(clock):
    """Blocks × block size × bytes in a token."""
    pool = pool_of(1, clock)
    pool.observe(address(0), Metrics(block_size=16, num_blocks=4))
    reserve(pool, clock, 0, digest(text(2000, 1)).blocks)

    assert pool.prefixes.size(0) == 16 * 4 * 4


@pytest.mark.parametrize(
    ("outcome", "status", "kept"),
    [
        (EndOutcome.COMPLETED, 200, "first"),
        (EndOutcome.CLIENT_LEFT, 200, "first"),
        (EndOutcome.COMPLETED, 429, "second"),
        (EndOutcome.SERVER_FAILED, 0, "second"),
    ],
)
def test_a_server_keeps_what_ended_last_unless_it_failed(clock, outcome, status, kept):
    """What was sent first is forgotten first, but an end is a use: until then the server cannot give the blocks away."""
    pool = pool_of(1, clock)
    prompts = {name: digest(text(1024, seed)).blocks for seed, name in enumerate(("first", "second"))}
    for name, blocks in prompts.items():
        reserve(pool, clock, 0, blocks, name)
    pool.finish(Ended("llama", "first", outcome, status=status, seconds=1.0))
    pool.observe(address(0), Metrics(block_size=16, num_blocks=16))

    assert [name for name, blocks in prompts.items() if pool.prefixes.match(blocks)] == [kept]


def paused(pool: Pool) -> list[int]:
    return [pace.paused_tokens for pace in pool.fleet.paces]


def test_between_two_turns_a_conversation_is_at_home_where_it_was(clock):
    """From the end of one to the pick of the next, wherever that goes."""
    pool = pool_of(2, clock)
    first, second = digest(text(2000, 1)), digest(text(2000, 1), text(1000, 2))
    reserve(pool, clock, 1, first.blocks)
    assert paused(pool) == [0, 0]
    pool.finish(Ended("llama", "d", EndOutcome.COMPLETED, status=200, seconds=1.0, response_bytes=400))
    pool.release("d")
    assert paused(pool)[0] == 0
    assert paused(pool)[1] > 1000, "the answer is cached too"
    pool.continued(second.blocks, second.prompt_tokens)
    assert paused(pool) == [0, 0]


def test_an_end_that_is_told_after_the_next_turn_is_no_pause(clock):
    """The proxy is some milliseconds late."""
    pool = pool_of(1, clock)
    first, second = digest(text(2000, 1)), digest(text(2000, 1), text(4000, 2))
    reserve(pool, clock, 0, first.blocks)
    clock.now += 1.0
    pool.continued(second.blocks, second.prompt_tokens)
    pool.finish(Ended("llama", "d", EndOutcome.COMPLETED, status=200, seconds=1.0))
    pool.release("d")

    assert paused(pool) == [0]


@pytest.mark.parametrize("how", ["failed", "restarted", "left"])
def test_nobody_is_at_home_at_a_server_without_a_cache(clock, how):
    """It failed the request, started anew, or was replaced by another in its slot."""
    pool = pool_of(1, clock)
    pool.observe(address(0), Metrics(started_at=100.0, scraped_at=clock()))
    reserve(pool, clock, 0, digest(text(2000, 1)).blocks)
    outcome = EndOutcome.SERVER_FAILED if how == "failed" else EndOutcome.COMPLETED
    pool.finish(Ended("llama", "d", outcome, status=200, seconds=1.0))
    if how == "restarted":
        pool.observe(address(0), Metrics(started_at=200.0, scraped_at=clock()))
    if how == "left":
        pool.set_members([Endpoint(address(5))])

    assert paused(pool) == [0]


def test_the_served_endpoint_gets_load_and_prefix(clock):
    """After a fallback the first choice never saw the prompt."""
    pool = pool_of(2, clock)
    blocks = digest(text(2000, 1)).blocks
    reserve(pool, clock, 0, blocks)
    pool.served("d", address(1))

    assert pool.prefixes.match(blocks) == {1: len(blocks)}
    assert [load.requests for load in pool.inflight.loads] == [0, 1]
    assert pool.inflight.loads[1].prompt_tokens == 1000


def test_what_the_first_choice_held_before_it_keeps(clock):
    """Only what this request would have brought is taken back, and the load is what is uncached where it runs."""
    pool = pool_of(2, clock)
    prompt = text(2048, 1)
    whole = digest(prompt).blocks
    reserve(pool, clock, 0, whole[:16], name="earlier")
    pool.release("earlier")
    pool.reserve(
        Entry(
            "d", 0, clock(), prompt_tokens=256, output_tokens=1, blocks=whole, matched=16, context_tokens=512
        )
    )
    pool.served("d", address(1))

    assert pool.prefixes.match(whole) == {0: 16, 1: 32}
    assert pool.inflight.loads[1].prompt_tokens == 512


def test_feedback_about_strangers_changes_nothing(clock):
    """A server that left in between, or a request that ended."""
    pool = pool_of(1, clock)
    reserve(pool, clock, 0)
    pool.served("d", "10.9.9.9:1")
    pool.served("unknown", address(0))
    pool.observe("10.9.9.9:1", Metrics())
    pool.miss("10.9.9.9:1")

    assert pool.inflight.loads[0].requests == 1
    assert pool.release("d", "10.9.9.9:1")
    assert not pool.release("d")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Metrics(started_at=10.0), Metrics(started_at=20.0)),
        (Metrics(prompt_tokens_total=500), Metrics(prompt_tokens_total=3)),
        (Metrics(num_blocks=100, block_size=16), Metrics(num_blocks=90, block_size=16)),
    ],
)
def test_a_restarted_server_holds_nothing(clock, before, after):
    """However it shows: its process is younger, its counter went back, or its cache has another size."""
    pool, prompt = pool_of(2, clock), digest(text(640, 1)).blocks
    for number in range(2):
        pool.observe(address(number), replace(before, scraped_at=clock()))
        reserve(pool, clock, number, prompt, name=f"d{number}")
    pool.observe(address(0), replace(after, scraped_at=clock()))

    assert pool.prefixes.match(prompt) == {1: 10}


def test_a_server_that_goes_on_keeps_what_it_holds(clock):
    """Neither more tokens nor a server that says nothing of itself is a restart."""
    pool, prompt = pool_of(1, clock), digest(text(640, 1)).blocks
    reserve(pool, clock, 0, prompt)
    for tokens in (0, 5, 9):
        pool.observe(address(0), Metrics(started_at=7.0, prompt_tokens_total=tokens, scraped_at=clock()))

    assert pool.prefixes.match(prompt) == {0: 10}


@pytest.mark.parametrize(("later", "requests"), [(0.1, 0), (0.002, 1)])
def test_the_next_turn_ends_the_one_before_unless_it_comes_too_soon(clock, later, requests):
    """A prompt of 1,000 tokens cannot have been computed in two milliseconds: that is a sibling."""
    pool, blocks = pool_of(1, clock), digest(text(4000, 1)).blocks
    reserve(pool, clock, 0, blocks)
    clock.now += later
    pool.continued((*blocks, 7), 1200)

    assert pool.inflight.loads[0].requests == requests
