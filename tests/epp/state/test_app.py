"""Whole pickers in one process, over a real Redis-protocol server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from services.epp.app import build
from services.epp.config import EndpointPickerConfig, PoolSpec, Redis, Scrape
from services.epp.director import Ask, Director, Reservation
from services.epp.pool import Pool
from services.epp.proxies import Proxies
from services.epp.records import Ended, EndOutcome, Release
from services.epp.service import EndpointPicker
from services.epp.state.lease import decode_lease, lease_key, stream_key
from services.epp.state.shared import Shared
from services.extproc.lifecycle import Parts
from services.openai.digest import Digest
from tests.epp.stack import METRICS, fake_server, until
from tests.epp.state.world import Valkey, valkey
from tests.epp.world import digest, text

SYSTEM = text(2000, 1)


@dataclass(slots=True)
class Running:
    """One picker."""

    director: Director
    parts: Parts

    @property
    def shared(self) -> Shared:
        assert isinstance(self.director._state, Shared)
        return self.director._state

    @property
    def pool(self) -> Pool:
        return self.director.pools["llama"]

    @property
    def proxies(self) -> Proxies:
        found = getattr(self.shared.holds, "__self__", None)
        assert isinstance(found, Proxies)
        return found

    def pick(self, digest: Digest) -> Reservation:
        return self.director.pick(Ask(digest=digest))

    def requests(self) -> int:
        return sum(load.requests for load in self.pool.inflight.loads)

    def value(self, name: str, **labels: str) -> float:
        return self.parts.registry.get_sample_value(name, {"pool": "llama", **labels}) or 0.0

    def replicas(self) -> float:
        return self.value("epp_state_replicas")


@contextlib.asynccontextmanager
async def running(url: str, *endpoints: str, **more) -> AsyncIterator[Running]:
    """Run a picker that is ready."""
    scrape = Scrape(interval_seconds=0.05)
    config = EndpointPickerConfig(
        api_version="llm-d.ai/v1alpha1",
        kind="EndpointPickerConfig",
        pools=[PoolSpec(name="llama", endpoints=list(endpoints), metrics=scrape)],
        redis=Redis(url=url, **more),
    )
    parts = Parts()
    async with build(config, parts) as app:
        await until(lambda: parts.readiness.ready)
        assert isinstance(app.service, EndpointPicker)
        yield Running(app.service.director, parts)


@pytest.fixture
async def server() -> AsyncIterator[Valkey]:
    async with valkey() as server:
        yield server


async def test_two_pickers_share_load_prefixes_and_ends(server):
    """Through Redis, within milliseconds; health and metrics say so."""
    prompt = digest(SYSTEM)
    async with (
        fake_server() as one,
        fake_server() as two,
        running(server.url, one.address, two.address) as ours,
        running(server.url, one.address, two.address) as theirs,
    ):
        await until(lambda: ours.replicas() == theirs.replicas() == 2)
        reservation = ours.pick(prompt)
        await until(lambda: theirs.requests() == 1)
        address = reservation.decision.servers[0].address
        matched = theirs.pool.prefixes.match(prompt.blocks)
        end = Ended("llama", reservation.id, EndOutcome.COMPLETED, status=200, seconds=0.1)
        known = theirs.director.finish(end, Release.ACCESS_LOG)
        await until(lambda: ours.requests() == theirs.requests() == 0)

        server = theirs.pool.get(address)
        assert server is not None
        assert matched == {server.slot: len(prompt.blocks)}
        assert not known
        assert theirs.value("epp_releases_total", by="passed_on") == 1
        assert ours.value("epp_releases_total", by="access_log") == 1
        assert ours.value("epp_ends_total", outcome="completed") == 1
        assert ours.parts.registry.get_sample_value("epp_redis_up") == 1
        assert ours.parts.details["shared-state"].ready
        await until(lambda: theirs.value("epp_state_visible_seconds_count") > 0)


async def test_a_lease_tells_people_what_a_replica_has_in_flight(server):
    """In a key that goes with its replica."""
    async with fake_server() as one, running(server.url, one.address, lease_seconds=0.5) as ours:
        first = ours.pick(digest(SYSTEM))
        ours.director.release("llama", first.id, Release.RESPONSE)
        ours.pick(digest(SYSTEM))
        key = lease_key("igw", "llama", first.id.partition("-")[0])
        async with server.client() as client:
            lease = decode_lease(await client.get(key))
            while not any(share.picks for share in lease.endpoints):
                lease = decode_lease(await client.get(key))
            left = await client.pttl(key)
            length = await client.xlen(stream_key("igw", "llama"))

    assert lease.endpoints[0].endpoint == one.address
    assert lease.endpoints[0].requests == 1
    assert lease.endpoints[0].picks == 2
    assert lease.endpoints[0].prompt_bytes == 4000
    assert lease.endpoints[0].matched_bytes == 31 * 64
    assert 0 < left <= 500
    assert length > 0


async def test_a_new_picker_is_warm_before_it_takes_requests(server):
    """It knows what others sent before it was there, also those that are gone."""
    prompt = digest(SYSTEM)
    async with fake_server() as one:
        async with running(server.url, one.address) as ours:
            told = ours.value("epp_state_publish_seconds_count")
            ours.pick(prompt)
            await until(
                lambda: ours.value("epp_state_publish_seconds_count") > told + 1
            )  # one may be on its way
        async with running(server.url, one.address) as new:
            matched = new.pool.prefixes.match(prompt.blocks)
            requests = new.pool.inflight.others.requests

            assert list(matched.values()) == [len(prompt.blocks)]
            await until(lambda: not requests and new.requests() == 0)


async def test_each_server_is_asked_by_one_picker_and_by_the_other_when_that_is_gone(server):
    """All know what it said."""
    async with fake_server() as llm, running(server.url, llm.address, lease_seconds=0.5) as ours:
        async with running(server.url, llm.address, lease_seconds=0.5) as theirs:
            await until(lambda: ours.replicas() == theirs.replicas() == 2)
            llm.metrics = METRICS.replace("waiting 0.0", "waiting 7.0")
            await until(lambda: _waiting(ours) == _waiting(theirs) == 7)
            shares = [one.shared.shares["llama"] for one in (ours, theirs)]
            await until(lambda: sorted(share.turn(llm.address, 10.0) for share in shares) == [False, True])
        llm.metrics = METRICS.replace("waiting 0.0", "waiting 9.0")
        await until(lambda: _waiting(ours) == 9)


def _waiting(picker: Running) -> int:
    [server] = picker.pool.snapshot.servers
    return server.metrics.waiting


PROXY = "ipv4:10.0.0.1 gateway-1"


async def test_a_proxy_that_leaves_one_picker_ends_what_another_picked_for_it(server):
    """Where that one has no stream by which to notice; what was picked for others stays."""
    async with (
        fake_server() as llm,
        running(server.url, llm.address) as ours,
        running(server.url, llm.address) as theirs,
    ):
        await until(lambda: ours.replicas() == theirs.replicas() == 2)
        with ours.proxies.stream("ipv4:10.0.0.1:41784") as named:
            named("gateway-1")
            theirs.director.pick(Ask(digest=digest(SYSTEM), proxy=PROXY))
            theirs.director.pick(Ask(digest=digest(SYSTEM), proxy="ipv4:10.0.0.2 gateway-1"))
            await until(lambda: ours.requests() == 2)
        await until(lambda: ours.requests() == theirs.requests() == 1)

        assert theirs.value("epp_releases_total", by="proxy_gone") == 1
        assert [entry.proxy for entry in theirs.pool.inflight] == ["ipv4:10.0.0.2 gateway-1"]
