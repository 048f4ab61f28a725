"""Each workload's lengths and what its prompts share."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.routing.measure import ideal_hits
from bench.routing.workloads import WORKLOADS
from bench.routing.workloads.base import arrivals
from bench.routing.workloads.traces import FOLDER, load

SHARED = {
    # Share of the prompts' tokens that one endless cache would find: least and most.
    "unshared": (0.0, 0.0),
    "one-system": (0.8, 0.9),
    "tenants": (0.85, 0.97),
    "tenants-70b": (0.85, 0.97),
    "conversation": (0.25, 0.5),
    "synthetic": (0.5, 0.75),
    "agents": (0.88, 0.99),
    "documents": (0.35, 0.75),
    "adapters": (0.5, 0.85),
    "bursts": (0.85, 0.97),
    "half-speed": (0.85, 0.97),
    "outage": (0.85, 0.97),
    "priorities": (0.75, 0.95),
}


@pytest.fixture(autouse=True)
def _no_traces(monkeypatch):
    monkeypatch.delenv(FOLDER, raising=False)


def turns_of(name, *, seed=5, scale=0.3):
    return [turn for one in WORKLOADS[name].plan(seed, scale) for turn in one.turn]


@pytest.mark.parametrize("name", WORKLOADS)
def test_prompts_share_as_much_as_the_workload_says(name):
    """An endless cache tells."""
    turns = turns_of(name)
    least, most = SHARED[name]

    assert least <= sum(ideal_hits(turns)) / sum(turn.prompt_tokens for turn in turns) <= most


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_seed_gives_the_same_requests_and_another_seed_others(name):
    """At a mean rate of one per second, with about as many requests as asked for."""
    workload = WORKLOADS[name]
    first, again, other = workload.plan(1, 0.1), workload.plan(1, 0.1), workload.plan(2, 0.1)
    requests = sum(1 for one in first for _ in one.turn)

    assert first == again
    assert first != other
    assert 0.5 * workload.requests * 0.1 < requests < 2 * workload.requests * 0.1 + 30
    assert max(one.at for one in first) == pytest.approx(requests)


def test_a_load_moves_arrivals_together_and_not_the_siblings_of_a_burst():
    """Twice the rate is half the time."""
    planned = WORKLOADS["bursts"].plan(1, 0.2)
    slow, fast = arrivals(planned, 1.0), arrivals(planned, 2.0)

    assert fast[-1][0] == pytest.approx(slow[-1][0] / 2, abs=0.1)
    assert fast[1][0] - fast[0][0] == pytest.approx(slow[1][0] - slow[0][0]) == pytest.approx(0.002)


def test_agents_have_contexts_of_a_hundred_thousand_tokens():
    """As recorded sessions: most of each prompt was there a step before."""
    lengths = sorted(turn.prompt_tokens for turn in turns_of("agents"))

    assert 80_000 < lengths[len(lengths) // 2] < 120_000


def test_adapters_are_more_than_slots():
    """Six times as many, the most popular one a fifth of the requests."""
    used = Counter(turn.adapter for turn in turns_of("adapters"))

    assert len(used) == 25
    assert 0.12 < used.most_common(2)[1][1] / used.total() < 0.3


def test_classes_that_may_not_be_shed_fit_the_fleet_at_twice_its_capacity():
    """Nearly half of the requests are not bulk."""
    classes = Counter(turn.objective for turn in turns_of("priorities", scale=1.0))

    assert set(classes) == {"interactive", "", "bulk"}
    assert 0.35 < 1 - classes["bulk"] / classes.total() < 0.55


@pytest.mark.parametrize(
    ("name", "tokens", "answer"), [("conversation", 12_035, 343), ("synthetic", 15_325, 149)]
)
def test_the_stand_ins_are_as_long_as_the_traces(name, tokens, answer):
    """Within an eighth."""
    records = load(name)

    assert sum(r.input_length for r in records) / len(records) == pytest.approx(tokens, rel=0.125)
    assert sum(r.output_length for r in records) / len(records) == pytest.approx(answer, rel=0.125)


def test_a_folder_without_the_trace_is_told_of(monkeypatch, tmp_path):
    """A stand-in would pass for the trace."""
    monkeypatch.setenv(FOLDER, str(tmp_path))

    with pytest.raises(FileNotFoundError, match="mooncake_conversation_trace"):
        load("conversation")


def test_half_speed_and_outage_are_the_tenants_of_another_fleet():
    """What is compared is the fleet."""
    half, outage = WORKLOADS["half-speed"].fleet, WORKLOADS["outage"].fleet

    assert half.profiles[0].prefill_rate == half.profiles[1].prefill_rate / 2
    assert outage.outage is not None
    assert len(set(outage.profiles)) == 1
