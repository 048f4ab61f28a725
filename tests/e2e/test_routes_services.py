"""Mirrors, fallbacks and restored names with the real BBR and the real picker, by the mock servers' own counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from services.bbr.__main__ import build as build_bbr
from services.bbr.config import Config as BbrConfig
from services.epp.app import build as build_epp
from services.epp.config import EndpointPickerConfig
from services.extproc.config import Limits, Listen, parse
from services.extproc.lifecycle import Build, Parts, running
from tests.e2e.gateway.stand import PATH, body_of
from tests.e2e.harness.wait import until
from tests.gateway.stubs import Seen, free_book, passing, processor, running_envoy, serving
from tools.gateway.envoy import bootstrap
from tools.gateway.routes import Routes
from tools.model_server.core import Settings
from tools.model_server.faults import ServerFaults
from tools.model_server.server import ModelServer, serve
from tools.workload.text import pseudo_text

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

SERVERS = {"large": "chat", "small": "chat-mini", "trial": "candidate"}
ROUTES = """
routes:
  - base_model: chat
    pools: [{pool: large}]
    fallbacks: [{pool: small, model: chat-mini}]
    mirrors: [{pool: trial, percent: 100, model: candidate}]
  - {base_model: chat-mini, pools: [{pool: small}]}
  - {base_model: candidate, pools: [{pool: trial}]}
"""
BBR = """
models: [{name: chat}, {name: chat-mini}, {name: candidate}]
aliases: {assistant: chat}
"""
EPP = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: request-load-scorer}
- {type: max-score-picker}
- {type: utilization-detector, parameters: {queueDepthThreshold: 2}}
schedulingProfiles: [{name: default, plugins: [{pluginRef: request-load-scorer}, {pluginRef: max-score-picker}]}]
saturationDetector: {pluginRef: utilization-detector}
objectives: [{name: batch, priority: -1}]
"""
TRUST = "edge: {trusted_headers: [x-gateway-inference-objective]}\n"


@dataclass(slots=True)
class World:
    """The gateway and its servers."""

    http: httpx.AsyncClient
    servers: dict[str, ModelServer]
    epp: Parts

    async def ask(
        self, model: str, *, headers: dict[str, str] | None = None, **more: object
    ) -> httpx.Response:
        return await self.http.post(PATH, json=body_of(model, **more), headers=headers)

    @property
    def served(self) -> dict[str, dict[str, int]]:
        """Requests by pool and by the model that its server was asked for."""
        counts = {pool: dict(server.core.journal.models) for pool, server in self.servers.items()}
        return {pool: models for pool, models in counts.items() if models}

    def load(self, pool: str) -> float:
        """Return what the picker believes to be in flight in `pool`."""
        return self._sum("epp_inflight_requests", pool)

    def releases(self, pool: str) -> float:
        """Return how many picks the access log has ended."""
        return self._sum("epp_releases_total", pool)

    def saturation(self, pool: str) -> float:
        """Return how full `pool` is."""
        return self._sum("epp_pool_saturation", pool)

    def _sum(self, name: str, pool: str) -> float:
        samples = (sample for family in self.epp.registry.collect() for sample in family.samples)
        return sum(
            s.value for s in samples if s.name == name and s.labels.get("pool", s.labels.get("name")) == pool
        )

    async def at_rest(self) -> bool:
        """Say whether every server is ready, none works, and the picker knows."""
        ready = all(self._sum("inference_pool_ready_pods", pool) for pool in self.servers)
        return ready and not any(
            self.load(pool) or server.core.loop.running for pool, server in self.servers.items()
        )


@contextlib.asynccontextmanager
async def service(build: Build, parts: Parts) -> AsyncIterator[int]:
    async with running(build, Listen(port=0, grace_seconds=0), Limits(), parts) as ports:
        yield ports.grpc


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        servers = {
            pool: await enter(serve(Settings(name=f"{pool}-1", model=model)))
            for pool, model in SERVERS.items()
        }
        pools = "".join(
            f"- {{name: {p}, endpoints: ['{s.url}'], metrics: {{interval_seconds: 0.05}}}}\n"
            for p, s in servers.items()
        )
        bbr, epp = (
            parse(BBR, BbrConfig, name="bbr"),
            parse(f"{EPP}pools:\n{pools}", EndpointPickerConfig, name="epp"),
        )
        routes = parse(ROUTES + TRUST, Routes, name="routes")
        parts = Parts()
        bbr_port = await enter(service(lambda parts: build_bbr(bbr, parts), Parts()))
        epp_port = await enter(service(lambda parts: build_epp(epp, parts), parts))
        book = free_book(bbr=bbr_port, epp=epp_port)
        await enter(serving(book.safety.port, processor(Seen(), passing)))
        config = folder / "envoy.json"
        config.write_text(bootstrap.to_json(bootstrap.build(routes, book)))
        await enter(running_envoy(config, book.admin, members=len(servers)))
        http = await enter(httpx.AsyncClient(base_url=f"http://{book.gateway}", timeout=30))
        yield World(http, servers, parts)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def built(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("world")) as built:
        yield built


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(built: World) -> World:
    for server in built.servers.values():
        server.apply(ServerFaults())
    await until(built.at_rest, "all are ready and nothing is in flight")
    for server in built.servers.values():
        server.core.journal.clear()
    return built


async def arrived(gateway: World, pool: str) -> None:
    async def copied() -> bool:
        return pool in gateway.served

    await until(copied, f"a copy in {pool}")


@pytest.mark.parametrize("stream", [True, False])
async def test_alias_mirror_and_main_pool_each_have_their_name(gateway, stream):
    """The client says `assistant`, the servers are asked for `chat` and `candidate`, the answer says `assistant`."""
    answer = await gateway.ask("assistant", stream=stream)
    assert answer.headers["x-served-by"] == "large-1"
    lines = answer.text.splitlines() if stream else [f"data: {answer.text}", ""]
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert {event["model"] for event in events} == {"assistant"}
    await arrived(gateway, "trial")
    assert gateway.served == {"large": {"chat": 1}, "trial": {"candidate": 1}}


async def gone(server: ModelServer) -> None:
    """Let `server` refuse connections, and wait until it does."""
    server.apply(ServerFaults(refuse=True))

    async def refuses() -> bool:
        try:
            _, writer = await asyncio.open_connection(server.host, server.port)
        except ConnectionRefusedError:
            return True
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return False

    await until(refuses, "the server refuses")


async def test_a_pool_without_a_server_falls_back_under_the_clients_name(gateway):
    """First the connection fails, later the picker says so itself; the client notices neither."""
    await gone(gateway.servers["large"])
    for _ in range(6):
        answer = await gateway.ask("assistant")
        assert answer.status_code == 200, answer.text
        assert (answer.headers["x-served-by"], answer.json()["model"]) == ("small-1", "assistant")
    assert gateway.served["small"] == {"chat-mini": 6}


async def test_a_saturated_pool_sheds_to_the_next_and_important_requests_stay(gateway):
    """A sheddable request goes to the small pool while one without an objective waits in the large one."""
    gateway.servers["large"].apply(ServerFaults(slow=400.0))
    text = [{"role": "user", "content": pseudo_text("full", 2500)}]
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(gateway.ask("chat", messages=text)) for _ in range(16)]

        async def full() -> bool:
            return bool(gateway.saturation("large") >= 1)

        await until(full, "the large pool is saturated")
        shed = await gateway.ask("chat", headers={"x-gateway-inference-objective": "batch"})
        gateway.servers["large"].apply(ServerFaults())
    assert (shed.headers["x-served-by"], shed.json()["model"]) == ("small-1", "chat")
    assert {task.result().headers["x-served-by"] for task in waiting} == {"large-1"}


async def test_every_pick_of_every_leg_is_released(gateway):
    """Main and mirror count as load where they ran, by their own picks, and nowhere afterwards."""
    before = {pool: gateway.releases(pool) for pool in gateway.servers}
    await asyncio.gather(*(gateway.ask("chat") for _ in range(8)))
    await until(gateway.at_rest, "the picker knows of every end")
    assert {pool: gateway.releases(pool) - count for pool, count in before.items()} == {
        "large": 8,
        "small": 0,
        "trial": 8,
    }
