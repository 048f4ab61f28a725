"""Scorers by load: batch, tokens, requests in flight, queue."""

from __future__ import annotations

import pytest

from services.epp.inflight import Load
from services.epp.scheduling.scorers.active_requests import ActiveRequests
from services.epp.scheduling.scorers.load_aware import LoadAware
from services.epp.scheduling.scorers.running import RunningRequests
from services.epp.scheduling.scorers.token_load import TokenLoad
from tests.epp.scheduling.world import server, situation


@pytest.mark.parametrize(
    ("running", "expected"),
    [((2, 12, 7), [1.0, 0.0, 0.5]), ((3, 3, 3), [1.0, 1.0, 1.0]), ((0, 1, 0), [1.0, 0.0, 1.0])],
)
def test_smaller_batches_are_better(running, expected):
    """(max - n) / (max - min), all equal is 1."""
    servers = [server(slot, running=count) for slot, count in enumerate(running)]

    assert RunningRequests().score(situation(), servers) == expected


def test_a_batch_is_corrected_by_what_the_scrape_could_not_know():
    """Two sent since, one ended since."""
    request = situation(Load(unseen=2), Load(finished=1))

    assert RunningRequests().score(request, [server(0), server(1, running=2), server(2, running=2)]) == [
        0.0,
        1.0,
        0.0,
    ]


@pytest.mark.parametrize(
    ("prompt", "output", "expected"), [(0, 0, 1.0), (100, 150, 0.75), (900, 100, 0.0), (5000, 0, 0.0)]
)
def test_tokens_in_flight_count_up_to_a_threshold(prompt, output, expected):
    """1 - min(1, tokens / threshold)."""
    load = Load(prompt_tokens=prompt, output_tokens=output)

    assert TokenLoad(1000).score(situation(load), [server(0)]) == [expected]


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        (ActiveRequests(), [1.0, 0.75, 0.0]),
        (ActiveRequests(idle_threshold=1), [1.0, 1.0, 0.0]),
        (ActiveRequests(max_busy_score=0.5), [1.0, 0.375, 0.0]),
    ],
)
def test_our_requests_in_flight_count_in_proportion(plugin, expected):
    """(max - n) / max, idle servers apart."""
    loads = [Load(requests=count) for count in (0, 1, 4)]

    assert plugin.score(situation(*loads), [server(slot) for slot in range(3)]) == expected


def test_an_idle_pool_scores_1_everywhere():
    """No division by zero."""
    assert ActiveRequests().score(situation(), [server(0), server(1)]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("waiting", "unseen", "expected"), [(0, 0, 0.5), (32, 0, 0.375), (0, 64, 0.25), (500, 0, 0.0)]
)
def test_queues_count_up_to_a_threshold(waiting, unseen, expected):
    """0.5 × (1 - q / 128), at least 0."""
    assert LoadAware().score(situation(Load(unseen=unseen)), [server(0, waiting=waiting)]) == [expected]


@pytest.mark.parametrize(
    ("plugin", "wrong"),
    [
        (TokenLoad, {"queue_threshold_tokens": 0}),
        (ActiveRequests, {"max_busy_score": 2}),
        (LoadAware, {"threshold": 0}),
    ],
)
def test_values_out_of_range_are_refused(plugin, wrong):
    """At the start."""
    with pytest.raises(ValueError, match="must"):
        plugin(**wrong)
