"""A profile filters, scores, weighs and picks, and keeps the record of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from services.epp.scheduling.interfaces import Decision, Filter, Picker, Scorer, Verdict
from services.epp.scheduling.pickers.max_score import MaxScore
from services.epp.scheduling.profile import NamedFilter, Profile, WeightedScorer
from tests.epp.scheduling.world import server, situation

SERVERS = tuple(server(slot) for slot in range(3))


@dataclass(frozen=True)
class Fixed:
    """Says what it is told."""

    values: tuple[float, ...]

    def score(self, situation, servers):
        return self.values


@dataclass(frozen=True)
class Only:
    """Keeps the slots it is told."""

    slots: tuple[int, ...]

    def keep(self, situation, servers):
        return [one for one in servers if one.slot in self.slots]


def run(
    *scorers: tuple[Scorer, float],
    filters: Sequence[Filter] = (),
    picker: Picker | None = None,
    seed: int = 1,
) -> Decision:
    profile = Profile(
        "test",
        tuple(NamedFilter(f"f{i}", plugin) for i, plugin in enumerate(filters)),
        tuple(WeightedScorer(f"s{i}", plugin, weight) for i, (plugin, weight) in enumerate(scorers)),
        picker or MaxScore(),
    )
    return profile.run(situation(), SERVERS, random.Random(seed))


def slots(decision: Decision) -> list[int]:
    return [one.slot for one in decision.servers]


def test_weighted_sums_decide_the_order():
    """Scores times weights, highest first."""
    decision = run((Fixed((1, 0, 0.5)), 1), (Fixed((0, 1, 0.6)), 2))

    assert slots(decision) == [1, 2, 0]
    assert decision.totals == pytest.approx((1, 2, 1.7))


def test_scores_outside_the_contract_are_moved_to_its_bounds():
    """A plugin that goes wild cannot outweigh the others; NaN is the worst."""
    decision = run((Fixed((7.0, -3.0, float("nan"))), 2))

    assert decision.totals == (2.0, 0.0, 0.0)
    assert decision.scores[0].raw == (1.0, 0.0, 0.0)


def test_a_scorer_that_forgets_a_server_is_a_bug_with_a_name():
    """Scores and servers are paired by position."""
    with pytest.raises(ValueError, match=r"'s0' returned 2 scores for 3"):
        run((Fixed((1, 1)), 1))


def test_filters_run_in_sequence_and_their_verdicts_are_kept():
    """What was left is scored, and the record says who took whom away."""
    decision = run((Fixed((1.0,)), 1), filters=[Only((0, 2)), Only((2,))])

    assert slots(decision) == [2]
    assert decision.verdicts == (Verdict("f0", 2, 3), Verdict("f1", 1, 2))


def test_when_nobody_is_left_the_decision_is_empty_and_names_the_filter():
    """Later filters and scorers are not asked."""
    decision = run((Fixed(()), 1), filters=[Only(()), Only((1,))])

    assert decision.servers == ()
    assert decision.verdicts == (Verdict("f0", 0, 3),)


def test_ties_are_broken_by_the_given_chance():
    """The same seed gives the same order, and over seeds everybody comes first."""
    first = [slots(run(seed=seed)) for seed in range(40)]

    assert first == [slots(run(seed=seed)) for seed in range(40)]
    assert {order[0] for order in first} == {0, 1, 2}


@pytest.mark.parametrize(("count", "expected"), [(1, [2]), (2, [2, 1]), (3, [2, 1, 0]), (9, [2, 1, 0])])
def test_the_list_holds_as_many_fallbacks_as_asked_for(count, expected):
    """Never more than there are servers."""
    assert slots(run((Fixed((0.1, 0.2, 0.3)), 1), picker=MaxScore(count))) == expected


def test_a_list_of_none_is_refused():
    """At least one server must be named."""
    with pytest.raises(ValueError, match="maxNumOfEndpoints must be at least 1"):
        MaxScore(0)


class Nobody:
    """A picker with a mistake."""

    def pick(self, situation, totals, rng):
        return []


def test_a_picker_that_picks_nobody_is_at_fault():
    """It is told apart from a pool without servers."""
    with pytest.raises(ValueError, match=r"the picker of profile '.*' picked nobody of 3 candidates"):
        run((Fixed((0.1, 0.2, 0.3)), 1), picker=Nobody())


class Learning(Fixed):
    """A scorer that remembers, and has something to tell the client."""

    def chosen(self, situation, server):
        return ((f"x-{server.slot}", "chosen"),)


def test_plugins_that_learn_are_told_of_the_first_choice():
    """And their headers go out with the answer."""
    learner = Learning((0.0, 1.0, 0.5))
    servers = [server(slot) for slot in range(3)]
    profile = Profile("p", (), (WeightedScorer("l", learner),), MaxScore(), (learner,))
    decision = profile.run(situation(), servers, random.Random(1))

    assert profile.chosen(situation(), decision) == (("x-1", "chosen"),)
