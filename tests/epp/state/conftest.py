"""Two replicas of one clock."""

from __future__ import annotations

import pytest

from tests.epp.state.world import Peer, peer
from tests.epp.world import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ours(clock: Clock) -> Peer:
    return peer("aaaaaaaa", clock)


@pytest.fixture
def theirs(clock: Clock) -> Peer:
    return peer("bbbbbbbb", clock)
