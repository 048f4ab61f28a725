"""Saturation: the mean over the servers of the fuller of queue and KV cache."""

from __future__ import annotations

import pytest

from services.epp.scheduling.saturation import Utilization
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
