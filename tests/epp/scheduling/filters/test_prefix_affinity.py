"""Holders of the prompt first, but not at any price."""

from __future__ import annotations

import pytest

from services.epp.inflight import Load
from services.epp.scheduling.filters.prefix_affinity import PrefixCacheAffinity
from tests.epp.scheduling.world import server, situation, slots

SERVERS = [server(0), server(1), server(2)]
ALL = [0, 1, 2]


def kept(plugin: PrefixCacheAffinity, *loads: Load, **more) -> list[int]:
    return slots(plugin.keep(situation(*loads, blocks=10, **more), SERVERS))


def test_those_that_hold_most_of_the_prompt_stay():
    """Eight blocks of ten are 0.8, seven are not."""
    assert kept(PrefixCacheAffinity(), matches={0: 8, 1: 7}) == [0]


def test_all_stay_when_nobody_holds_enough():
    """The filter never refuses a request."""
    assert kept(PrefixCacheAffinity(), matches={1: 7}) == ALL
    assert kept(PrefixCacheAffinity()) == ALL


@pytest.mark.parametrize(("chance", "expected"), [(0.009, ALL), (0.01, [0])])
def test_one_request_in_a_hundred_explores(chance, expected):
    """By the request's own draw."""
    assert kept(PrefixCacheAffinity(), matches={0: 10}, chance=chance) == expected


@pytest.mark.parametrize(
    ("tokens", "penalty", "expected"),
    [(10_000, 5000.0, [0]), (10_001, 5000.0, ALL), (10_001, 0.0, [0])],
)
def test_holders_are_given_up_when_they_are_too_slow(tokens, penalty, expected):
    """At 1,000 tokens a second 5 s more than the others are 5,000 tokens more; 0 never gives up."""
    plugin = PrefixCacheAffinity(max_ttft_penalty_ms=penalty, peak_prefill_throughput=1000.0)
    loads = [Load(prompt_tokens=tokens), Load(prompt_tokens=90_000), Load(prompt_tokens=5_000)]

    assert kept(plugin, *loads, matches={0: 10}) == expected


def test_the_best_holder_counts():
    """One overloaded holder of two is no reason to leave both."""
    plugin = PrefixCacheAffinity(peak_prefill_throughput=1000.0)

    assert kept(plugin, Load(prompt_tokens=50_000), matches={0: 10, 1: 10}) == [0, 1]


@pytest.mark.parametrize(
    "wrong", [{"affinity_threshold": 2}, {"max_ttft_penalty_ms": -1}, {"peak_prefill_throughput": 0}]
)
def test_values_out_of_range_are_refused(wrong):
    """With the names of the file."""
    with pytest.raises(ValueError, match=r"affinityThreshold|maxTTFTPenaltyMs"):
        PrefixCacheAffinity(**wrong)
