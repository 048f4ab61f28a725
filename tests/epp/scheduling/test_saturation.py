"""Saturation: the mean over the servers of the fuller of queue and KV cache."""

from __future__ import annotations

import pytest

from services.epp.endpoints import Endpoint, Metrics, Server
from services.epp.inflight import Load
from services.epp.scheduling.saturation import Concurrency, Utilization
from tests.epp.scheduling.world import NOW, server


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ([], 1.0),
        ([server(0)], 0.0),
        ([server(0, waiting=5)], 1.0),
        ([server(0, kv_usage=0.8)], 1.0),
        ([server(0, waiting=1, kv_usage=0.4)], 0.5),
        ([server(0, waiting=10), server(1)], 1.0),
        ([server(0, ready=False), server(1)], 0.5),
        ([server(0, scraped_at=NOW - 99), server(1)], 0.0),
    ],
)
def test_utilization(servers, expected):
    """The reference's formula; whoever is not heard of counts as full."""
    assert Utilization().saturation(NOW, servers) == pytest.approx(expected)


def test_staleness_counts_as_full_where_it_is_asked_for():
    """As the reference does."""
    servers = [server(0, scraped_at=NOW - 0.3), server(1, scraped_at=NOW - 0.1)]

    assert Utilization(metrics_staleness_threshold_seconds=0.2).saturation(NOW, servers) == pytest.approx(0.5)


@pytest.mark.parametrize("bad", [{"queue_depth_threshold": 0}, {"kv_cache_util_threshold": 0.0}])
def test_thresholds_that_divide_by_zero_are_refused(bad):
    """At start and not at the first request."""
    with pytest.raises(ValueError, match="must be at least 1"):
        Utilization(**bad)


def one(waiting: int = 0, running: int = 0) -> list[Server]:
    return [
        Server(
            Endpoint("10.0.0.1:1"), 0, Metrics(waiting=waiting, running=running, scraped_at=NOW), ready=True
        )
    ]


@pytest.mark.parametrize(
    ("server", "load", "expected"),
    [
        ({}, Load(requests=8, unseen=8), 0.0),
        ({}, Load(requests=13, unseen=13), 1.0),
        ({"running": 20}, Load(requests=40, unseen=20), 0.0),
        ({"running": 20}, Load(requests=45, unseen=25), 1.0),
        ({"waiting": 3}, Load(requests=5, unseen=2), 1.0),
        ({"waiting": 5}, Load(requests=5, unseen=1, finished=1), 1.0),
        ({"waiting": 4}, Load(requests=5, unseen=1, finished=1), 0.8),
    ],
)
def test_what_was_sent_since_the_scrape_counts_as_waiting(server, load, expected):
    """Past a burst that the batch takes, and less what has ended since."""
    assert Utilization().saturation(NOW, one(**server), [load]) == pytest.approx(expected)


def test_servers_that_report_nothing_are_never_full():
    """In a pool without metrics every member is ready and was never asked."""
    servers = [Server(Endpoint("10.0.0.1:1"), 0, ready=True)]
    assert Utilization(metrics_staleness_threshold_seconds=0.2).saturation(NOW, servers, [Load()]) == 0.0


@pytest.mark.parametrize(("mode", "expected"), [("requests", 0.5), ("tokens", 0.75), ("hybrid", 0.75)])
def test_concurrency_is_what_is_in_flight_over_what_fits(mode, expected):
    """Over the ready servers alone."""
    servers = [Server(Endpoint(f"10.0.0.{n}:1"), n, ready=n < 2) for n in range(3)]
    loads = [Load(requests=4, context_tokens=100, output_tokens=50), Load(requests=6), Load(requests=99)]
    detector = Concurrency(max_concurrency=10, max_token_concurrency=100, concurrency_mode=mode)
    assert detector.saturation(NOW, servers, loads) == pytest.approx(expected)
    assert detector.saturation(NOW, servers[2:], loads) == 1.0
