"""Replicas in virtual time: what is shared at once makes several decide like one, and nothing is left to chance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.replicas.virtual import Sharing, play
from bench.routing.measure import Row
from bench.routing.workloads import WORKLOADS
from bench.routing.workloads.base import arrivals

TENANTS = WORKLOADS["tenants"]


def row(sharing: Sharing, seed: int = 1) -> Row:
    return play(sharing, replace(TENANTS.fleet, servers=4), arrivals(TENANTS.plan(seed, 0.1), 15.0), seed)


@pytest.mark.parametrize("delay", [0.0, 0.02, None])
def test_a_run_is_the_same_each_time(delay):
    """Down to the last figure."""
    assert row(Sharing(3, delay)) == row(Sharing(3, delay))


def test_replicas_that_share_find_in_the_caches_what_one_finds():
    """Those that do not find less."""
    one, shared, alone = row(Sharing(1, None)), row(Sharing(4, 0.02)), row(Sharing(4, None))
    assert shared.hits >= 0.98 * one.hits
    assert alone.hits < 0.9 * one.hits
