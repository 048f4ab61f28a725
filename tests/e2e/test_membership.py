"""Membership by EDS over gRPC: what the picker may name, and what happens when a server or the source goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc.aio
import pytest
import pytest_asyncio

from tests.e2e.harness import config
from tests.e2e.harness.backend import EVENTS
from tests.e2e.harness.clients import Ask, http1
from tests.e2e.harness.eds import Eds, eds_running
from tests.e2e.harness.lab import Lab, Places, Plan, chain, lab, together
from tests.e2e.harness.scripted import Script, pick
from tests.e2e.harness.wait import until

pytestmark = pytest.mark.e2e


@dataclass(frozen=True, slots=True)
class Pool:
    """A lab whose pool gets its members from `eds`."""

    lab: Lab
    eds: Eds
    server: grpc.aio.Server

    async def status(self) -> int:
        return (await http1(self.lab.envoy.ports["pool"], Ask("/sha1", method="GET"))).status

    async def until_status(self, status: int) -> None:
        async def reached() -> bool:
            return await self.status() == status

        await until(reached, f"status {status}")


@pytest_asyncio.fixture
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pool]:
    async with eds_running("pool") as (eds, server):

        def plan(places: Places) -> Plan:
            picker = Script(metadata=pick(places.list(places.backend)))
            clusters = [
                {**eds.cluster(), **config.override_host()},
                config.cluster("xds", [eds.port], http2=True),
            ]
            return together(chain("pool", [picker], [config.route("pool")])[0], Plan([], {}, clusters))

        async with lab(tmp_path_factory.mktemp("envoy"), plan) as running:
            yield Pool(running, eds, server)


async def test_an_endpoint_serves_as_soon_as_it_is_a_member(pool):
    """Naming a server that Envoy does not know is a 503; after the push it answers."""
    assert await pool.status() == 503
    await pool.eds.push(pool.lab.backend.port)
    await pool.until_status(200)
    assert pool.eds.refused == []


async def test_members_stay_when_their_source_is_gone(pool):
    """Envoy keeps the last list that it was given."""
    await pool.eds.push(pool.lab.backend.port)
    await pool.until_status(200)
    await pool.server.stop(None)
    assert await pool.status() == 200


async def test_a_stream_outlives_the_membership_of_its_server(pool):
    """New requests are refused at once; the one that streams comes to its end."""
    await pool.eds.push(pool.lab.backend.port)
    await pool.until_status(200)
    before = len(pool.lab.backend.requests)
    stream = asyncio.gather(http1(pool.lab.envoy.ports["pool"], Ask("/events/50", method="GET")))

    async def streaming() -> bool:
        return len(pool.lab.backend.requests) > before

    await until(streaming, "the stream has begun")
    await pool.eds.push()
    await pool.until_status(503)
    assert not stream.done()
    (answer,) = await stream
    assert (answer.body, answer.complete) == (EVENTS[0] * 49 + EVENTS[1], True)
