"""Runs in virtual time."""

from __future__ import annotations

import dataclasses

import pytest

from bench.routing.cells import Cell, run
from bench.routing.fleet import CHAT_8B, Outage
from bench.routing.policies import POLICIES
from bench.routing.policies.plain import RoundRobin
from bench.routing.turns import Exchange, conversation
from bench.routing.world import RETRY_AFTER, World

TWO = dataclasses.replace(CHAT_8B, servers=2)


def talk(number, *, turns=1, answer=100):
    exchanges = [
        Exchange([(100 * number + k, 800)], (100 * number + 50 + k, answer), 1.0) for k in range(turns)
    ]
    return conversation(number, [], exchanges)


def play(arrivals, *, fleet=TWO, policy=RoundRobin):
    return World(policy, fleet, arrivals, 1).run()


def test_times_are_those_of_the_engine():
    """800 tokens at 8,000 per second, then a hundred steps, or nearly."""
    (one,) = play([(0.0, talk(1))])
    profile = TWO.profile

    assert one.ttft == pytest.approx(800 / profile.prefill_rate, rel=0.02)
    assert one.seconds - one.ttft == pytest.approx(
        99 * (profile.decode_base + profile.decode_per_sequence), rel=0.02
    )


def test_a_turn_is_asked_when_the_one_before_was_answered_and_finds_its_cache():
    """After the pause, and on the same server if that is where it goes."""
    first, second = play([(0.0, talk(1, turns=2))], fleet=dataclasses.replace(CHAT_8B, servers=1))

    assert second.started == pytest.approx(first.seconds + 1.0)
    assert second.cached == (800 + 100) // 16 * 16
    assert first.cached == 0


def test_a_server_that_dies_breaks_its_answers_and_clients_ask_again():
    """Their time goes on, and what it had cached is gone."""
    fleet = dataclasses.replace(TWO, outage=Outage(server=1, begins=0.01, ends=0.5))
    coming = [(0.0, talk(1, answer=400)), (0.01, talk(2, answer=400)), (20.0, talk(3))]
    outcomes = {one.turn.session: one for one in play(coming, fleet=fleet)}

    assert outcomes[1].retries == 1
    assert outcomes[1].server == 0
    assert outcomes[1].ttft > RETRY_AFTER
    assert outcomes[2].retries == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_survives_an_outage_and_answers_everything(policy):
    """Nothing is lost, and the server works again after it."""
    result = run(Cell("outage", "x", 30.0, policy, 3, 0.05))

    assert result.row.requests >= 15
    assert result.row.goodput > 0.5


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_run(policy):
    """Every figure of it."""
    cell = Cell("tenants", "x", 30.0, policy, 4, 0.03)

    assert run(cell) == run(cell)


def test_a_refused_request_ends_its_session():
    """What would have followed counts as refused too."""
    row = run(Cell("priorities", "x", 600.0, "default", 1, 0.4)).row

    assert row.shed["bulk"] > 0.05
    assert row.shed["interactive"] == row.shed["standard"] == 0
