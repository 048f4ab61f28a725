"""The director: from a request's facts to reserved servers, or a refusal with the right status."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from services.epp.director import DROPPED, Ask, Director
from services.epp.endpoints import Endpoint, Metrics
from services.epp.pool import Pool
from services.epp.records import Ended, EndOutcome, Pick, PickOutcome, Release, Silent
from services.epp.scheduling.subset import Subset
from services.extproc.errors import Overloaded, Unavailable
from services.openai.digest import Digest
from tests.epp.world import Clock, address, closed_loop, digest, director_of, pool_of, text


class Recorder(Silent):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.picks: list[Pick] = []
        self.releases: list[tuple[str, Release]] = []

    def picked(self, pick: Pick) -> None:
        self.picks.append(pick)

    def released(self, pool: str, by: Release) -> None:
        self.releases.append((pool, by))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def first(director: Director, ask: Ask) -> str:
    return director.pick(ask).decision.servers[0].address


def saturated(clock: Clock) -> Pool:
    pool = pool_of(2, clock)
    for number in range(2):
        pool.observe(address(number), Metrics(waiting=5, scraped_at=clock()))
    return pool


def test_a_pick_counts_as_load_before_anybody_else_is_asked(clock):
    """Uncached prompt tokens and the expected answer are counted with it."""
    pool = pool_of(2, clock)
    director = director_of(pool, clock=clock)
    reservation = director.pick(Ask(digest(text(4096, 1), max_tokens=50)))

    load = pool.inflight.loads[reservation.decision.servers[0].slot]
    assert (load.requests, load.prompt_tokens, load.output_tokens) == (1, 1024, 50)
    assert director.release("llama", reservation.id, Release.ACCESS_LOG)
    assert load.requests == 0


def test_only_what_is_not_cached_counts_as_prompt(clock):
    """The second turn costs its own part; the first must have been answered, whether or not its end is known."""
    pool = pool_of(1, clock)
    director = director_of(pool, clock=clock)
    director.pick(Ask(digest(text(4096, 1), max_tokens=1)))
    clock.now += 1
    director.pick(Ask(digest(text(4096, 1), text(400, 2), max_tokens=1)))

    assert pool.inflight.loads[0].prompt_tokens == 100
    assert pool.inflight.loads[0].requests == 1


def test_what_a_turn_brings_again_is_known_with_its_pick(clock):
    """What its server alone holds: the system prompt is on two. A sibling with a question of its own brings nothing."""
    pool = pool_of(3, clock)
    director = director_of(pool, clock=clock)
    system, talk = text(2048, 1), text(1024, 2)
    pool.prefixes.record(0, digest(system).blocks)
    pool.prefixes.record(1, digest(system).blocks)

    def again(*parts: bytes) -> int:
        reservation = director.pick(Ask(digest(*parts)))
        entry = pool.inflight.get(reservation.id)
        assert entry is not None
        pool.finish(Ended("llama", reservation.id, EndOutcome.COMPLETED, status=200, seconds=1.0))
        director.release("llama", reservation.id, Release.ACCESS_LOG)
        clock.now += 1.0
        return entry.again_tokens

    assert again(system, talk) == 0
    assert again(system, talk, text(1024, 3)) == 256
    assert again(system, talk[:512], text(1024, 4)) == 0


def test_a_request_without_limit_is_expected_to_be_average(clock):
    """256 tokens."""
    pool = pool_of(1, clock)
    director_of(pool, clock=clock).pick(Ask(Digest("m")))

    assert pool.inflight.loads[0].output_tokens == 256


def test_the_list_names_the_fallbacks_in_order(clock):
    """`ip:port,ip:port,…`."""
    reservation = director_of(pool_of(5, clock), clock=clock).pick(Ask(Digest("m")))

    assert reservation.addresses == ",".join(server.address for server in reservation.decision.servers)
    assert len(set(reservation.addresses.split(","))) == 3


def test_decisions_are_the_same_under_the_same_seed(clock):
    """And differ under another."""

    def run(seed: int) -> list[str]:
        director = director_of(pool_of(8, Clock()), clock=Clock(), seed=seed)
        return [director.pick(Ask(digest(text(500, number)))).addresses for number in range(20)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_decision_ids_are_unique_and_tell_restarts_apart(clock):
    """An end from before a restart must not release another request."""
    director = director_of(pool_of(1, clock), clock=clock, seed=1)
    other = director_of(pool_of(1, clock), clock=clock, seed=2)
    ids = [one.pick(Ask(Digest("m"))).id for one in (director, director, other, other)]

    assert len(set(ids)) == 4


@pytest.mark.parametrize(("named", "expected"), [("a", "a"), ("b", "b")])
def test_one_process_serves_many_pools(clock, named, expected):
    """By name."""
    director = director_of(pool_of(1, clock, name="a"), pool_of(1, clock, name="b"), clock=clock)

    assert director.pick(Ask(Digest("m"), pool=named)).pool.name == expected


def test_the_only_pool_needs_no_name(clock):
    """Nothing to choose."""
    assert director_of(pool_of(1, clock), clock=clock).pick(Ask(Digest("m"))).pool.name == "llama"


@pytest.mark.parametrize(
    ("pool", "message"), [("x", "no pool 'x' is configured"), ("", "the request names no pool")]
)
def test_an_unknown_pool_is_503(clock, pool, message):
    """And says which."""
    director = director_of(pool_of(1, clock, name="a"), pool_of(1, clock, name="b"), clock=clock)

    with pytest.raises(Unavailable, match=message) as refusal:
        director.pick(Ask(Digest("m"), pool=pool))
    assert (DROPPED, "rejected-no-endpoints") in refusal.value.headers


def test_nobody_ready_is_503(clock):
    """Also in an empty pool."""
    pool = Pool("llama", clock=clock)
    with pytest.raises(Unavailable, match="no server of pool 'llama' is ready"):
        director_of(pool, clock=clock).pick(Ask(Digest("m")))
    pool.set_members([Endpoint(address(0))])
    with pytest.raises(Unavailable, match="no server of pool 'llama' is ready"):
        director_of(pool, clock=clock).pick(Ask(Digest("m")))


def test_the_subset_is_obeyed_and_an_empty_one_is_503(clock):
    """Endpoint picker protocol 1.0."""
    director = director_of(pool_of(3, clock), clock=clock)

    for _ in range(5):
        assert first(director, Ask(Digest("m"), subset=Subset(frozenset({address(2)})))) == address(2)
    with pytest.raises(Unavailable, match="in the subset"):
        director.pick(Ask(Digest("m"), subset=Subset()))


OBJECTIVES = {"batch": -1, "model": 10, "low": -5}


@pytest.mark.parametrize(
    ("ask", "priority"),
    [
        (Ask(Digest("model")), 10),
        (Ask(Digest("other")), 0),
        (Ask(Digest("model"), objective="batch"), -1),
        (Ask(Digest("low")), -5),
        (Ask(Digest("model"), objective="unheard-of"), 0),
    ],
)
def test_priority_comes_from_the_named_objective_else_from_the_model(clock, ask, priority):
    """Unknown names are priority 0, as in the reference."""
    recorder = Recorder()
    director_of(pool_of(1, clock), clock=clock, objectives=OBJECTIVES, observer=recorder).pick(ask)

    assert recorder.picks[0].priority == priority


def test_sheddable_requests_are_429_in_a_saturated_pool(clock):
    """With when to come back and why."""
    director = director_of(saturated(clock), clock=clock, objectives=OBJECTIVES)

    with pytest.raises(Overloaded) as refusal:
        director.pick(Ask(Digest("m"), objective="batch"))
    assert refusal.value.headers == (("retry-after", "1"), (DROPPED, "rejected-saturated"))
    assert director.pick(Ask(Digest("m"))).pool is not None, "others pass"


def test_sheddable_requests_pass_where_there_is_room_or_nothing_is_known(clock):
    """A pool without metrics is never known to be full."""
    unscraped = Pool("u", clock=clock, scraped=False)
    unscraped.set_members([Endpoint(address(0))])
    director = director_of(pool_of(1, clock), unscraped, clock=clock, objectives=OBJECTIVES)

    for pool in ("llama", "u"):
        assert director.pick(Ask(Digest("m"), pool=pool, objective="batch")).pool.name == pool


def test_every_decision_is_reported_once(clock):
    """With its outcome, server and prefix hit."""
    recorder, pool = Recorder(), pool_of(1, clock)
    director = director_of(pool, clock=clock, observer=recorder, objectives=OBJECTIVES)
    prompt = digest(text(640, 1))
    director.pick(Ask(prompt))
    director.pick(Ask(prompt))
    with pytest.raises(Unavailable):
        director.pick(Ask(prompt, pool="x"))
    pool.observe(address(0), Metrics(waiting=9, scraped_at=clock()))
    with pytest.raises(Overloaded):
        director.pick(Ask(prompt, objective="batch"))

    outcomes = [PickOutcome.PICKED, PickOutcome.PICKED, PickOutcome.NO_ENDPOINT, PickOutcome.SHED]
    assert [pick.outcome for pick in recorder.picks] == outcomes
    assert [pick.matched_bytes for pick in recorder.picks] == [0, 640, 0, 0]
    assert [pick.endpoint for pick in recorder.picks] == [address(0), address(0), "", ""]


def test_an_end_that_nobody_waits_for_is_counted_as_unknown(clock):
    """Released twice, expired, or another replica's."""
    recorder = Recorder()
    director = director_of(pool_of(1, clock), clock=clock, observer=recorder)
    reservation = director.pick(Ask(Digest("m")))

    assert director.release("llama", reservation.id, Release.RESPONSE)
    assert not director.release("llama", reservation.id, Release.ACCESS_LOG)
    assert not director.release("gone", reservation.id, Release.ACCESS_LOG)
    assert recorder.releases == [("llama", Release.RESPONSE), ("llama", Release.UNKNOWN)]


def test_a_lost_end_does_not_weigh_on_the_first_decision_after_its_lease(clock):
    """Expiry comes before the decision."""
    pool = pool_of(2, clock)
    director = director_of(pool, clock=clock)
    for _ in range(9):
        first(director, Ask(Digest("m"), subset=Subset(frozenset({address(0)}))))
    clock.now += 601
    director.pick(Ask(Digest("m")))

    assert len(pool.inflight) == 1


# What the default profile is for.


@pytest.mark.parametrize("seconds", [0.01, 0.15, 1.0])
@pytest.mark.parametrize("servers", [2, 5])
def test_turns_of_a_conversation_stay_and_find_their_prefix(servers, seconds):
    """Also when the end of the turn before is not known yet, and the last scrape still shows it."""
    clock, recorder = Clock(), Recorder()
    pool = pool_of(servers, clock)
    director = director_of(pool, clock=clock, observer=recorder)
    homes = Counter[str]()
    for conversation in range(20):
        history, asks = [text(1200, 1000 + conversation)], []
        for turn in range(4):
            history.append(text(300, conversation * 100 + turn))
            asks.append(Ask(digest(*history)))
            history.append(text(60, conversation * 777 + turn))
        served = closed_loop(
            director, pool, clock, asks, concurrency=1, seconds=lambda: seconds, end_is_known_after=0.05
        )
        assert len(set(served)) == 1
        assert all(pick.matched_bytes > 1000 for pick in recorder.picks[-3:])
        homes[served[0]] += 1
    assert len(homes) == servers, "and different conversations spread"


@pytest.mark.parametrize("seed", range(5))
def test_unrelated_requests_spread(seed):
    """Cold ties are random, and what is in flight counts at once."""
    clock = Clock()
    pool, rng = pool_of(2, clock), random.Random(seed)
    asks = [Ask(digest(text(2000, 5000 + number))) for number in range(40)]
    served = closed_loop(
        director_of(pool, clock=clock, seed=seed),
        pool,
        clock,
        asks,
        concurrency=4,
        seconds=lambda: rng.uniform(0.03, 0.05),
    )

    assert max(Counter(served).values()) <= 26


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mean", [0.05, 0.5])
@pytest.mark.parametrize(("servers", "most"), [(2, 40), (5, 20)])
def test_a_shared_system_prompt_alone_does_not_pull_everybody_to_one_server(servers, most, mean, seed):
    """64 requests, 8 at a time: two thirds of each prompt are the same."""
    clock = Clock()
    pool, rng, shared = pool_of(servers, clock), random.Random(seed), text(3000, 42)
    asks = [Ask(digest(shared, text(1500, 9000 + number))) for number in range(64)]
    served = Counter(
        closed_loop(
            director_of(pool, clock=clock, seed=seed),
            pool,
            clock,
            asks,
            concurrency=8,
            seconds=lambda: rng.uniform(0.7, 1.3) * mean,
        )
    )

    assert len(served) == servers
    assert max(served.values()) <= most


def test_an_adapter_prefers_servers_that_have_it(clock):
    """Also with a request more; but not whatever the load."""
    pool = pool_of(3, clock)
    loaded = Metrics(active_adapters=frozenset({"lora"}), max_adapters=2, scraped_at=clock())
    for number, metrics in enumerate((loaded, Metrics(max_adapters=2, scraped_at=clock()))):
        pool.observe(address(number), metrics)
    director = director_of(pool, clock=clock)

    served = [first(director, Ask(Digest("lora"), base_model="base")) for _ in range(12)]
    assert served[:2] == [address(0)] * 2
    assert address(1) in served, "a free place is good enough once the first is busier"
