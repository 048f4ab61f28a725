"""Scorers: one aspect of a server each, from 0 to 1."""

from __future__ import annotations

from typing import Any

import pytest

from services.epp.inflight import Load
from services.epp.scheduling.scorers.kv_cache import KvCacheUtilization
from services.epp.scheduling.scorers.lora_affinity import LoraAffinity
from services.epp.scheduling.scorers.prefix_cache import PrefixCache
from services.epp.scheduling.scorers.queue import Queue
from services.epp.scheduling.scorers.request_load import RequestLoad
from tests.epp.scheduling.world import server, situation


def approx(*values: float) -> Any:
    return pytest.approx(list(values))


@pytest.mark.parametrize(
    ("queues", "expected"),
    [((0, 0), (1, 1)), ((5, 5), (1, 1)), ((0, 10), (1, 0)), ((2, 4, 10), (1, 0.75, 0)), ((3,), (1,))],
)
def test_queue_is_relative_to_the_longest_and_the_shortest(queues, expected):
    """The reference's formula."""
    servers = [server(slot, waiting=queue) for slot, queue in enumerate(queues)]

    assert Queue().score(situation(), servers) == approx(*expected)


def test_queue_counts_what_was_sent_since_the_scrape():
    """The scraped queue is old by the time it is read."""
    servers = [server(0, waiting=1), server(1, waiting=2)]

    assert Queue().score(situation(Load(requests=3, unseen=3)), servers) == approx(0, 1)


def test_kv_cache_prefers_the_emptier_one():
    """One minus the usage."""
    assert KvCacheUtilization().score(situation(), [server(0, kv_usage=0.25), server(1)]) == approx(0.75, 1)


def test_prefix_cache_is_the_matched_share_in_bytes():
    """64 blocks of 64 bytes and one of 128: the last is worth twice the others."""
    asked = situation(blocks=65, matches={0: 65, 1: 64, 2: 32})

    scores = PrefixCache().score(asked, [server(slot) for slot in range(4)])
    assert scores == approx(1, 4096 / 4224, 2048 / 4224, 0)


def test_prefix_cache_of_a_prompt_without_blocks_is_zero():
    """Short prompts have no affinity."""
    assert PrefixCache().score(situation(), [server(0), server(1)]) == approx(0, 0)


@pytest.mark.parametrize(
    ("expected", "metrics"),
    [
        (1.0, {"active_adapters": frozenset({"lora"}), "max_adapters": 1}),
        (0.8, {"active_adapters": frozenset({"x"}), "max_adapters": 2}),
        (0.8, {"waiting_adapters": frozenset({"lora"}), "max_adapters": 2}),
        (0.6, {"waiting_adapters": frozenset({"lora"}), "max_adapters": 1}),
        (0.0, {"active_adapters": frozenset({"x"}), "max_adapters": 1}),
        (0.0, {}),
    ],
)
def test_lora_affinity_prefers_loaded_then_free_then_waiting(expected, metrics):
    """The reference's four steps."""
    assert LoraAffinity().score(situation(model="lora"), [server(0, **metrics)]) == approx(expected)


def test_a_request_for_the_base_model_does_not_mind_adapters():
    """It needs no place of its own."""
    full = server(0, active_adapters=frozenset({"x"}), max_adapters=1)

    assert LoraAffinity().score(situation(model="base", base_model="base"), [full]) == approx(1)
    assert LoraAffinity().score(situation(model="lora", base_model="base"), [full]) == approx(0)


@pytest.mark.parametrize(
    ("running", "expected"),
    [((0, 0), (1, 1)), ((0, 2), (1, 0.5)), ((100, 300), (1, 102 / 302)), ((7, 7), (1, 1))],
)
def test_request_load_is_relative_to_the_least_loaded(running, expected):
    """Ratios count, softened by the slack."""
    servers = [server(slot, running=count) for slot, count in enumerate(running)]

    assert RequestLoad(slack=2).score(situation(), servers) == approx(*expected)


def test_one_request_more_never_costs_everything():
    """No cliff: a cached prefix can outweigh it."""
    scores = RequestLoad().score(situation(Load(requests=1, unseen=1)), [server(0), server(1)])

    assert scores == approx(2 / 3, 1)


def test_request_load_corrects_the_scrape_by_what_happened_since():
    """Sent since: more. Ended since: less. And never less than what we know to be there."""
    servers = [server(slot, running=10) for slot in range(3)] + [server(3)]
    loads = [Load(requests=12, unseen=2), Load(requests=5, finished=6), Load(requests=10), Load(requests=2)]

    counts = [12, 5, 10, 2]
    assert RequestLoad(slack=0).score(situation(*loads), servers) == approx(*(2 / count for count in counts))


def test_a_queued_request_weighs_more_than_a_running_one():
    """Its server is full."""
    servers = [server(0, running=8), server(1, running=4, waiting=4)]

    assert RequestLoad(slack=0, waiting_factor=4).score(situation(), servers) == approx(1, 8 / 20)
