"""EDS: what the proxy asked for, when it changed, and never an empty list by mistake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.rpc import Status

from services.epp.eds import Changes, Subscription, assignment
from services.epp.endpoints import Endpoint
from services.epp.pool import Pool
from services.epp.records import Silent
from tests.epp.world import Clock, address, pool_of


class Answers(Silent):
    """Keeps the proxy's answers."""

    def __init__(self) -> None:
        self.accepted: list[bool] = []

    def membership(self, *, accepted: bool) -> None:
        self.accepted.append(accepted)


@pytest.fixture
def pools() -> dict[str, Pool]:
    clock = Clock()
    return {
        "a": pool_of(2, clock, name="a"),
        "b": pool_of(1, clock, name="b"),
        "empty": Pool("empty", clock=clock),
    }


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def subscription(pools: dict[str, Pool], answers: Answers) -> Subscription:
    return Subscription(pools, answers)


def ask(*names: str, nonce: str = "", error: str = "") -> DiscoveryRequest:
    detail = Status(code=13, message=error) if error else None
    return DiscoveryRequest(resource_names=list(names), response_nonce=nonce, error_detail=detail)


def members(response: DiscoveryResponse | None) -> dict[str, list[tuple[str, int]]]:
    assert response is not None
    found = [ClusterLoadAssignment.parse(resource.value) for resource in response.resources]
    return {one.cluster_name: [_address(m) for m in one.endpoints[0].lb_endpoints] for one in found}


def _address(member: Any) -> tuple[str, int]:
    address = member.endpoint.address.socket_address
    return address.address, address.port_value


def test_nothing_is_sent_before_it_is_asked_for(subscription):
    """The proxy speaks first."""
    assert subscription.due() is None


def test_the_members_of_what_was_asked_for_are_sent_once(subscription):
    """Under the resource's name, with a version and a nonce."""
    subscription.receive(ask("pool-a", "pool-b"))
    response = subscription.due()

    assert members(response) == {
        "pool-a": [("10.0.0.1", 8000), ("10.0.0.2", 8000)],
        "pool-b": [("10.0.0.1", 8000)],
    }
    assert response.type_url == "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    assert response.nonce == response.version_info == "1"
    assert subscription.due() is None


def test_an_ack_changes_nothing_and_is_counted(subscription, answers):
    """It repeats the names."""
    subscription.receive(ask("pool-a"))
    subscription.due()
    subscription.receive(ask("pool-a", nonce="1"))

    assert subscription.due() is None
    assert answers.accepted == [True]


def test_a_nack_is_counted_and_not_answered_with_the_same(subscription, answers, pools):
    """Only a change is worth another try."""
    subscription.receive(ask("pool-a"))
    subscription.due()
    subscription.receive(ask("pool-a", nonce="1", error="bad address"))
    assert answers.accepted == [False]
    assert subscription.due() is None

    pools["a"].set_members([Endpoint(address(5))])
    assert members(subscription.due()) == {"pool-a": [("10.0.0.6", 8000)]}


def test_an_answer_to_an_older_response_is_ignored(subscription, answers, pools):
    """The one to the newest is on its way."""
    subscription.receive(ask("pool-a"))
    subscription.due()
    pools["a"].set_members([Endpoint(address(5))])
    subscription.due()
    subscription.receive(ask("pool-b", nonce="1"))

    assert answers.accepted == []
    assert subscription.due() is None


def test_a_new_name_gets_its_members(subscription):
    """Clusters come one by one."""
    subscription.receive(ask("pool-a"))
    subscription.due()
    subscription.receive(ask("pool-a", "pool-b", nonce="1"))

    assert set(members(subscription.due())) == {"pool-a", "pool-b"}


def test_readiness_is_no_membership(subscription, pools):
    """A server that does not answer is not picked; the proxy need not know, and its streams go on."""
    subscription.receive(ask("pool-a"))
    subscription.due()
    for _ in range(9):
        pools["a"].miss(address(0))

    assert subscription.due() is None


@pytest.mark.parametrize("name", ["pool-empty", "pool-unknown", "a", ""])
def test_pools_without_members_and_unknown_ones_are_left_out(subscription, name):
    """An empty list would take the servers from a proxy that still knows them."""
    subscription.receive(ask(name))
    assert subscription.due() is None
    subscription.receive(ask("pool-a", name))
    assert set(members(subscription.due())) == {"pool-a"}


def test_ipv6_members_are_written_without_brackets():
    """Host and port are two fields."""
    pool = Pool("p", clock=Clock())
    pool.set_members([Endpoint("[2001:db8::1]:80")])

    assert _address(assignment("p", pool).endpoints[0].lb_endpoints[0]) == ("2001:db8::1", 80)


async def test_every_stream_is_woken_by_a_change():
    """And each once when it begins."""
    changes = Changes()
    with changes.subscribe() as one, changes.subscribe() as two:
        for event in (one, two):
            assert event.is_set()
            event.clear()
        changes.notify()
        await asyncio.gather(one.wait(), two.wait())
        two.clear()
    changes.notify()
    assert not two.is_set(), "a stream that ended is forgotten"
