"""The default scorer: seconds become scores, and near-ties are ties."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.epp.cost.pace import Pace
from services.epp.scheduling.scorers.cost import Cost
from services.openai.digest import BOUNDARIES, Digest
from tests.epp.scheduling.world import NOW, server, situation


def paces(*busy: float) -> list[Pace]:
    return [Pace(busy_until=NOW + seconds) for seconds in busy]


def test_the_least_cost_is_one_and_twice_the_cost_is_half():
    """Apart from the margin."""
    asked = situation(paces=paces(0, 10))
    cost = Cost(margin=0)
    seconds = cost.seconds(asked, [server(0), server(1)])

    assert cost.score(asked, [server(0), server(1)]) == [1.0, pytest.approx(seconds[0] / seconds[1])]


def test_what_the_estimate_cannot_tell_apart_is_a_tie():
    """Within the margin, so that the picker draws."""
    asked = situation(paces=paces(0, 0.005, 0.5))
    first, second, third = Cost(margin=0.01).score(asked, [server(0), server(1), server(2)])

    assert first == second == 1.0
    assert third < 1.0


def test_a_cached_prefix_is_worth_its_time_and_no_more():
    """4 KB of prompt save an eighth of a second: less than half a second of queue is."""
    digest = Digest("m", prompt_bytes=4096, max_tokens=10, blocks=tuple(range(63)))
    asked = replace(situation(matches={0: 63}), digest=digest)
    here, there = Cost().score(replace(asked, paces=paces(0, 0)), [server(0), server(1)])
    assert here > there
    here, there = Cost().score(replace(asked, paces=paces(0.5, 0)), [server(0), server(1)])
    assert here < there


def test_a_request_for_the_base_model_needs_no_adapter():
    """Only where the router in front says which that is."""
    servers = [server(0, max_adapters=1, active_adapters=frozenset({"a"})), server(1, max_adapters=1)]
    asked = situation(model="base", base_model="base", paces=paces(0, 0))
    assert Cost().score(asked, servers) == [1.0, 1.0]
    asked = situation(model="a", base_model="base", paces=paces(0, 0))
    assert Cost().score(asked, servers)[1] < 1.0


@pytest.mark.parametrize(
    "bad",
    [{"margin": -1}, {"burden": -0.1}, {"foresight": -1}, {"patience": -1}, {"adapter_load_seconds": -1}],
)
def test_no_price_is_negative(bad):
    """Refused at the start."""
    with pytest.raises(ValueError, match="negative"):
        Cost(**bad)


def test_the_share_of_a_prompt_that_is_cached_follows_the_blocks():
    """Block boundaries, in tokens."""
    digest = Digest("m", prompt_bytes=BOUNDARIES[69], blocks=tuple(range(70)))
    assert digest.prefix_tokens(70) == BOUNDARIES[69] // 4
