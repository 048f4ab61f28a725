"""The rule of each baseline."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bench.routing.policies import POLICIES
from bench.routing.policies.affinity import CacheAware, Smg
from bench.routing.policies.base import Choice, End, Shed, Surroundings
from bench.routing.policies.hashing import PrefixHash, SessionSticky
from bench.routing.policies.oracle import Oracle
from bench.routing.policies.picker import Picker
from bench.routing.policies.plain import LeastRequest, PowerOfTwo, RoundRobin
from bench.routing.turns import Exchange, conversation
from services.epp.endpoints import Metrics
from tools.model_server.constants import SMG_MOCK
from tools.model_server.engine import Engine, Request

SERVERS = 4
READY = range(SERVERS)
END = End(1.0, 0.1, 10)


def around(servers=SERVERS, **more):
    return Surroundings(lambda: 1000.0, random.Random(1), [Engine(SMG_MOCK) for _ in range(servers)], **more)


def turn(question=2, *, session=0, system=((1, 2000),), tokens=100, objective="", answer=50):
    exchange = Exchange([(question, tokens)], (question + 10_000, answer))
    return conversation(session, list(system), [exchange], objective=objective)


def send(policy, asked, server=None, ready=READY):
    """Let the policy choose, or choose for it, and tell it."""
    choice = policy.choose(asked, ready) if server is None else Choice((server,))
    policy.sent(asked, choice, choice.servers[0])
    return choice.servers[0]


def compute(policy, asked, server):
    """Put the prompt of `asked` into a server's cache."""
    engine = policy.around.engines[server]
    engine.submit(Request(f"r{asked.session}/{server}", asked.prompt_tokens, 1, asked.blocks), 0.0)
    engine.advance(1000.0)


def test_round_robin_takes_every_server_in_turn_and_skips_those_that_are_down():
    """Whatever is asked."""
    policy = RoundRobin(around())

    assert [send(policy, turn()) for _ in range(5)] == [1, 2, 3, 0, 1]
    assert 2 not in {send(policy, turn(), ready=[0, 1, 3]) for _ in range(9)}


def test_least_request_counts_what_has_not_ended():
    """An end makes room."""
    policy = LeastRequest(around())
    for server in READY:
        send(policy, turn(), server)
    policy.ended(turn(), Choice((2,)), 2, END)

    assert send(policy, turn()) == 2


def test_power_of_two_avoids_the_busiest_and_is_no_least_request():
    """Of any two, the worst of four is never the better one; the best is not always drawn."""
    policy = PowerOfTwo(around())
    policy.outstanding[:] = [0, 1, 2, 3]
    drawn = Counter(policy.choose(turn(), READY).servers[0] for _ in range(300))

    assert drawn[3] == 0
    assert drawn[0] < 200


def test_prefix_hash_goes_by_the_first_256_tokens():
    """The same beginning goes to one server, others elsewhere."""
    same = {PrefixHash(around()).server(turn(question, session=question), READY) for question in range(2, 12)}
    others = {PrefixHash(around()).server(turn(system=[(name, 2000)]), READY) for name in range(1, 40)}

    assert len(same) == 1
    assert others == set(READY)


def test_prefix_hash_never_loads_a_server_beyond_five_fourths_of_the_mean():
    """A hot prefix spills over to the next on the ring."""
    policy = PrefixHash(around())
    for question in range(2, 202):
        send(policy, turn(question, session=question))

    assert max(policy.outstanding) <= 1.25 * 200 / SERVERS + 1
    assert min(policy.outstanding) > 0


def test_prefix_hash_moves_only_what_a_lost_server_had():
    """The ring stays as it is."""
    policy = PrefixHash(around())
    asked = [turn(system=[(name, 2000)]) for name in range(1, 60)]
    before = [policy.server(one, READY) for one in asked]
    after = [policy.server(one, [0, 1, 2]) for one in asked]

    assert all(new == old for old, new in zip(before, after, strict=True) if old != 3)


def test_a_session_sticks_until_its_server_is_gone():
    """Then it has another home, and stays there."""
    policy = SessionSticky(around())
    home = send(policy, turn(session=7))
    rest = [server for server in READY if server != home]

    assert all(send(policy, turn(question, session=7)) == home for question in range(3, 9))
    moved = send(policy, turn(session=7), ready=rest)
    assert moved != home
    assert send(policy, turn(session=7)) == moved


def test_cache_aware_follows_a_match_of_more_than_half():
    """2,000 of 2,100 tokens are known; of 200 in 4,200 it is not worth it."""
    policy = CacheAware(around())
    send(policy, turn(2), 3)

    assert policy.server(turn(4), READY) == 3
    assert policy.server(turn(5, tokens=2500), READY) != 3


def test_cache_aware_fills_the_smallest_tree_when_nothing_matches():
    """Not the least loaded server."""
    policy = CacheAware(around())
    for server in (0, 1, 3):
        send(policy, turn(system=[(10 + server, 500)]), server)
    policy.outstanding[2] = 20

    assert policy.server(turn(system=[(99, 500)]), READY) == 2


@pytest.mark.parametrize(
    ("busy", "idle", "followed"), [(32, 0, True), (33, 0, False), (400, 370, True), (500, 440, False)]
)
def test_cache_aware_forgets_affinity_only_beyond_both_thresholds(busy, idle, followed):
    """Above 32 more than the least, and above 1.1 times it."""
    policy = CacheAware(around())
    send(policy, turn(2), 1)
    policy.outstanding[:] = [idle, busy, idle, idle]

    assert (policy.server(turn(4), READY) == 1) is followed


def test_smg_follows_the_longest_match_whatever_the_queue():
    """Up to the spill."""
    policy = Smg(around())
    send(policy, turn(2), 1)
    policy.outstanding[:] = [0, 60, 0, 0]
    assert policy.server(turn(4), READY) == 1

    policy.outstanding[:] = [0, 100, 0, 0]
    assert policy.server(turn(5), READY) != 1


def test_smg_takes_the_least_expected_wait_when_nothing_matches():
    """Tokens since the last poll count, and so does a full cache."""
    policy = Smg(around())
    for server in (0, 1, 2):
        send(policy, turn(system=[(20 + server, 3000)]), server)
    assert policy.server(turn(system=[(99, 500)]), READY) == 3

    full = Metrics(kv_usage=0.99)
    policy.scraped(3, full)  # 0.15 s × 99, against 1.5 s of queued tokens
    assert policy.server(turn(system=[(98, 500)]), READY) != 3


def test_the_oracle_knows_what_is_cached_and_what_is_on_its_way():
    """A sibling goes where its document is being computed."""
    policy = Oracle(around())
    compute(policy, turn(2), 2)
    assert policy.server(turn(4), READY) == 2

    first = turn(5, system=[(50, 6000)])
    home = send(policy, first)
    assert policy.server(turn(6, session=1, system=[(50, 6000)]), READY) == home


def test_the_oracle_spreads_a_prompt_that_many_sessions_begin_with():
    """A copy of it is no loss; a copy of a conversation of its own is."""
    asked = [turn(question, session=question) for question in range(2, 102)]
    policy = Oracle(around(future=asked))
    for one in asked:
        send(policy, one)

    assert min(policy.outstanding) > 15


def test_the_oracle_keeps_adapters_where_they_are_loaded():
    """Another slot taken is time lost."""
    policy = Oracle(around())
    policy.around.engines[2].adapters.use("a", ())
    asked = conversation(0, [], [Exchange([(3, 100)], (4, 50))], adapter="a")

    assert policy.server(asked, READY) == 2


def test_the_default_is_the_real_director_and_reports_ends_to_it():
    """What was sent counts as load until its end."""
    policy = Picker(around())
    for server in READY:
        policy.scraped(server, Metrics(block_size=16, num_blocks=1000, scraped_at=999.0))
    asked = turn()
    choice = policy.choose(asked, READY)
    policy.sent(asked, choice, choice.servers[0])

    assert sorted(choice.servers) != []
    assert len(policy.pool.inflight) == 1
    policy.ended(asked, choice, choice.servers[0], END)
    assert len(policy.pool.inflight) == 0


def test_the_default_can_be_told_times_with_noise():
    """Twenty measurements of one truth disagree; without noise they do not."""

    def variance(noise: float) -> float:
        policy = Picker(around(), noise=noise)
        for server in READY:
            policy.scraped(server, Metrics(block_size=16, num_blocks=1000, scraped_at=999.0))
        for _ in range(60):
            asked = turn()
            choice = policy.choose(asked, READY)
            policy.sent(asked, choice, choice.servers[0])
            policy.ended(asked, choice, choice.servers[0], END)
        return max(pace.slow_decode.variance for pace in policy.pool.fleet.paces)

    assert variance(0.8) > 3 * variance(0.0)


def test_the_default_sheds_bulk_when_the_fleet_is_full_and_nothing_else():
    """By the real saturation detector."""
    policy = Picker(around())
    for server in READY:
        policy.scraped(server, Metrics(waiting=50, block_size=16, num_blocks=1000, scraped_at=999.0))

    with pytest.raises(Shed):
        policy.choose(turn(objective="bulk"), READY)
    assert policy.choose(turn(objective="interactive"), READY).servers


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_starts_and_chooses_a_server(name):
    """With nothing known."""
    policy = POLICIES[name](around())
    for server in READY:
        policy.scraped(server, Metrics(block_size=16, num_blocks=1000, scraped_at=999.0))

    assert policy.choose(turn(), READY).servers[0] in READY
