"""What the cost formula is for, with the real director in front of modelled engines, in virtual time."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

from bench.routing.fleet import CHAT_8B
from bench.routing.policies.picker import Picker
from bench.routing.policies.plain import RoundRobin
from bench.routing.workloads.base import Planned, arrivals
from bench.routing.workloads.chat import one_system, tenants, unshared
from bench.routing.workloads.heavy import bursts
from bench.routing.world import Outcome, World

SERVERS = 4


def play(
    planned: list[Planned], *, rate: float, policy=Picker, speeds: tuple[tuple[int, float], ...] = ()
) -> list[Outcome]:
    """Start `rate` sessions, or bursts of them, in a second."""
    fleet = dataclasses.replace(CHAT_8B, servers=SERVERS, speeds=speeds)
    return World(policy, fleet, arrivals(planned, rate), 3).run()


def hits(outcomes: list[Outcome]) -> float:
    return sum(one.cached for one in outcomes) / sum(one.turn.prompt_tokens for one in outcomes)


def first_token(outcomes: list[Outcome]) -> float:
    return sum(one.ttft for one in outcomes) / len(outcomes)


def test_a_slow_server_gets_less_without_being_told():
    """One of four at a third of the speed; the others share alike."""
    outcomes = play(unshared(random.Random(1), 600), rate=12, speeds=((0, 0.33),))
    slow, *others = (Counter(one.server for one in outcomes[200:])[number] for number in range(SERVERS))

    assert slow < 0.6 * min(others)
    assert max(others) < 1.4 * min(others)


def test_a_system_prompt_that_everybody_shares_does_not_pull_everybody():
    """All four servers work alike, and nearly everybody finds the prompt."""
    outcomes = play(one_system(random.Random(2), 400), rate=20)
    served = Counter(one.server for one in outcomes)

    assert max(served.values()) < 1.3 * min(served.values())
    assert hits(outcomes) > 0.8


def test_conversations_stay_with_their_prefix_and_wait_less_than_by_turns():
    """Against round robin."""
    asked = tenants(random.Random(3), 400)
    cost, turns = play(asked, rate=6), play(asked, policy=RoundRobin, rate=6)

    assert hits(cost) > 0.8 > hits(turns)
    assert first_token(cost) < 0.6 * first_token(turns)


def test_siblings_share_their_document_and_still_use_more_than_one_server():
    """A burst computes its document once or twice, not everywhere; bursts spread."""
    outcomes = play(bursts(random.Random(4), 300), rate=0.6)

    assert hits(outcomes) > 0.75
    assert len({one.server for one in outcomes}) == SERVERS
