"""Limits on what a server may have."""

from __future__ import annotations

import pytest

from services.epp.inflight import Load
from services.epp.plugins import PluginError, build
from services.epp.scheduling.filters.utilization import Condition, UtilizationLimits
from tests.epp.scheduling.world import server, situation, slots

SERVERS = [server(0, waiting=3, running=9, kv_usage=0.5), server(1, waiting=0, running=2, kv_usage=0.9)]


@pytest.mark.parametrize(
    ("metric", "limit", "expected"),
    [
        ("waiting-queue", 2, [1]),
        ("waiting-queue", 3, [0, 1]),  # at the limit is within
        ("running-requests", 8, [1]),
        ("kv-cache-utilization", 0.8, [0]),
        ("active-requests", 4, [1]),
    ],
)
def test_servers_over_a_limit_are_passed_over(metric, limit, expected):
    """Each of the four metrics."""
    plugin = UtilizationLimits((Condition(metric, limit),))

    assert slots(plugin.keep(situation(Load(requests=5)), SERVERS)) == expected


def test_all_conditions_must_be_met():
    """And with nobody left the request is refused, unless all may stand in."""
    conditions = (Condition("waiting-queue", 2), Condition("kv-cache-utilization", 0.8))

    assert slots(UtilizationLimits(conditions).keep(situation(), SERVERS)) == []
    assert slots(UtilizationLimits(conditions, fallback_on_empty=True).keep(situation(), SERVERS)) == [0, 1]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ([], "at least one"),
        ([{"metric": "queue", "maxValue": 1}], "Invalid enum value 'queue'"),
        ([{"metric": "waiting-queue"}], "maxValue"),
        ([{"metric": "kv-cache-utilization", "maxValue": 80}], "a share up to 1"),
        ([{"metric": "waiting-queue", "maxValue": -1}], "no less than 0"),
    ],
)
def test_wrong_conditions_are_refused(conditions, message):
    """As in the reference."""
    with pytest.raises(PluginError, match=message):
        build("utilization-filter", {"conditions": conditions})
