"""What the cost formula is for, with the real director in front of modelled engines, in virtual time."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bench.routing_quick.workloads import Turn, bursts, one_system, shared, unshared
from bench.routing_quick.world import Outcome, World
from tools.model_server.constants import LLAMA_8B_H100

SERVERS = 4


def play(
    turns: list[Turn], *, policy: str = "cost", rate: float, speeds: tuple[float, ...] = (1.0,) * SERVERS
) -> list[Outcome]:
    """Start `rate` of `turns` in a second, siblings of a burst together."""
    rng, now, before, arrivals = random.Random(5), 0.0, "", []
    for turn in turns:
        if not turn.adapter or turn.adapter != before:
            now += rng.expovariate(rate)
        before = turn.adapter
        arrivals.append((now, turn))
    return World(policy, [LLAMA_8B_H100.scaled(speed) for speed in speeds], 3, {}).run(arrivals)


def hits(outcomes: list[Outcome]) -> float:
    return sum(one.cached for one in outcomes) / sum(one.prompt for one in outcomes)


def first_token(outcomes: list[Outcome]) -> float:
    return sum(one.ttft for one in outcomes) / len(outcomes)


def test_a_slow_server_gets_less_without_being_told():
    """One of four at a third of the speed; the others share alike."""
    outcomes = play(list(unshared(random.Random(1), 600)), rate=12, speeds=(0.33, 1, 1, 1))
    slow, *others = (Counter(one.server for one in outcomes[200:])[number] for number in range(SERVERS))

    assert slow < 0.6 * min(others)
    assert max(others) < 1.4 * min(others)


def test_a_system_prompt_that_everybody_shares_does_not_pull_everybody():
    """All four servers work alike, and nearly everybody finds the prompt."""
    outcomes = play(list(one_system(random.Random(2), 400)), rate=20)
    served = Counter(one.server for one in outcomes)

    assert max(served.values()) < 1.3 * min(served.values())
    assert hits(outcomes) > 0.8


def test_conversations_stay_with_their_prefix_and_wait_less_than_by_turns():
    """Against round robin."""
    asked = [list(shared(random.Random(3), 400)) for _ in range(2)]
    cost, turns = play(asked[0], rate=6), play(asked[1], policy="rr", rate=6)

    assert hits(cost) > 0.8 > hits(turns)
    assert first_token(cost) < 0.6 * first_token(turns)


def test_siblings_share_their_document_and_still_use_more_than_one_server():
    """A burst computes its document once or twice, not everywhere; bursts spread."""
    outcomes = play(list(bursts(random.Random(4), 300)), rate=0.6)

    assert hits(outcomes) > 0.75
    assert len({one.server for one in outcomes}) == SERVERS


@pytest.mark.parametrize("policy", ["cost", "weighted"])
def test_the_same_seed_gives_the_same_run(policy):
    """Decisions, times and hits."""
    first, second = (play(list(shared(random.Random(6), 80)), policy=policy, rate=6) for _ in range(2))

    assert first == second
