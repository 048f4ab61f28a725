"""Near is better: to the gateway, or to the server that decodes."""

from __future__ import annotations

import pytest

from services.epp.scheduling.scorers.topology import HOST, REGION, ZONE, TopologyAffinity, ZoneAffinity
from tests.epp.scheduling.world import server, situation

A, B, NOWHERE = (server(0, labels={ZONE: "a"}), server(1, labels={ZONE: "b"}), server(2))


def test_servers_in_the_gateways_zone_are_better():
    """One without the label is elsewhere."""
    assert ZoneAffinity().score(situation(zone="b"), [A, B, NOWHERE]) == [0.0, 1.0, 0.0]
    assert ZoneAffinity(zone="a", other_score=0.5).score(situation(zone="b"), [A, B]) == [1.0, 0.5]


def test_without_a_zone_all_are_equal():
    """Nothing is preferred by accident."""
    assert ZoneAffinity().score(situation(), [A, B, NOWHERE]) == [1.0, 1.0, 1.0]


PEER = server(9, labels={HOST: "h1", "rack": "r1", ZONE: "a", REGION: "eu"})


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({HOST: "h1", ZONE: "a"}, 1.0),
        ({HOST: "h2", "rack": "r1"}, 0.2),
        ({ZONE: "a", REGION: "eu"}, 0.05),
        ({ZONE: "b", REGION: "eu"}, 0.02),
        ({REGION: "us"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_nearest_common_level_counts(labels, expected):
    """By the bandwidth between the two."""
    assert TopologyAffinity("rack").score(situation(peer=PEER), [server(0, labels=labels)]) == [expected]


def test_missing_labels_match_nothing_and_without_a_peer_all_are_equal():
    """Two servers without a host name are not on the same host."""
    assert TopologyAffinity().score(situation(peer=server(1)), [server(0)]) == [0.0]
    assert TopologyAffinity().score(situation(), [PEER]) == [0.0]
