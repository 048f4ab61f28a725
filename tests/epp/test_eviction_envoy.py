"""On real Envoy: a request that a server has, and has not begun to answer, is taken back for another one."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from services.epp.config import EndpointPickerConfig
from services.extproc.config import parse
from services.openai.digest import encode
from tests.epp.stack import any_port, envoy, envoy_config, free_port, picker, until
from tests.epp.test_envoy import total
from tests.epp.world import digest, text
from tools.model_server.core import Settings
from tools.model_server.server import serve

pytestmark = pytest.mark.e2e

CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins: [{type: concurrency-detector, parameters: {maxConcurrency: 2}}]
saturationDetector: {pluginRef: concurrency-detector}
flowControl: {enableEviction: true, defaultRequestTTL: 5s}
objectives: [{name: high, priority: 10}, {name: batch, priority: -1}]
pools: [{name: llama, endpoints: ['%s'], metrics: {interval_seconds: 0.05}}]
"""
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def gateway(epp: int, port: int, admin: int, *, waits: bool) -> dict[str, Any]:
    config = envoy_config(epp=epp, port=port, digest=encode(digest(text(500, 1), model="m")))
    config["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}}
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    pick = chain["filters"][0]["typed_config"]["http_filters"][1]["typed_config"]
    pick["stat_prefix"] = "epp"
    pick["processing_mode"]["response_header_mode"] = "SEND" if waits else "SKIP"
    pick["max_message_timeout"] = "60s"
    return config


class Client:
    def __init__(self, session: aiohttp.ClientSession, port: int, admin: int) -> None:
        self.session, self.port, self.admin = session, port, admin

    async def ask(self, objective: str, tokens: int = 1) -> tuple[int, dict[str, str], Any]:
        headers = {"x-gateway-inference-objective": objective}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        async with self.session.post(url, json={**BODY, "max_tokens": tokens}, headers=headers) as answer:
            return (
                answer.status,
                {name.lower(): value for name, value in answer.headers.items()},
                await answer.json(),
            )

    async def ready(self) -> None:
        while True:
            try:
                if (await self.ask("high"))[0] == 200:
                    return
            except (aiohttp.ClientError, ValueError):
                await asyncio.sleep(0.02)

    async def stats(self) -> dict[str, int]:
        url = f"http://127.0.0.1:{self.admin}/stats?filter=ext_proc.epp|cluster.pool-llama.upstream_rq"
        async with self.session.get(url) as answer:
            pairs = [line.rsplit(": ", 1) for line in (await answer.text()).splitlines()]
        return {name.rpartition(".")[2]: int(value) for name, value in pairs if value.isdecimal()}


async def aborted(session: aiohttp.ClientSession, url: str) -> float:
    """Return how many requests the mock server has broken off: its client was gone."""
    async with session.get(f"{url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if 'finished_reason="abort"' in line)


async def test_the_waiting_one_is_served_and_the_other_is_told_at_once(tmp_path):
    """Envoy answers 429 and resets the server's request, which stops working on it; and it finds nothing wrong."""
    async with (
        serve(Settings(model="m")) as server,
        picker(parse(CONFIG % server.url, EndpointPickerConfig)) as running,
    ):
        ports, parts = running
        await until(lambda: parts.readiness.ready)
        port, admin = any_port(41), free_port()
        config = gateway(ports.grpc, port, admin, waits=True)
        async with envoy(config, tmp_path), aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            client = Client(session, port, admin)
            await client.ready()
            await until(lambda: total(parts, "epp_inflight_requests") == 0)
            first = group.create_task(client.ask("batch", 100_000))
            await until(lambda: total(parts, "epp_inflight_requests") == 1)
            second = group.create_task(client.ask("batch", 100_000))
            await until(lambda: total(parts, "epp_inflight_requests") == 2)
            served, *_ = await client.ask("high", 1)
            status, headers, body = await second
            assert not first.done()
            while await aborted(session, server.url) < 1:  # noqa: ASYNC110 - another process would have no event
                await asyncio.sleep(0.01)
            await until(
                lambda: total(parts, "epp_releases_total", by="unknown") == 1
            )  # the log tells of it too
            stats = await client.stats()
            assert await aborted(session, server.url) == 1
            assert not first.done()
            first.cancel()

    assert served == 200
    assert (status, headers["x-llm-d-request-dropped-reason"]) == (429, "evicted-priority")
    assert int(headers["retry-after"]) >= 1
    assert "higher priority" in body["error"]["message"]
    assert total(parts, "epp_evictions_total", pool="llama", priority="-1") == 1
    assert total(parts, "epp_releases_total", by="evicted") == 1
    assert stats["immediate_responses_sent"] == 1
    assert stats.get("spurious_msgs_received", 0) == stats.get("streams_failed", 0) == 0


async def test_one_that_waited_itself_is_taken_back_as_well(tmp_path):
    """Its stream has been open for longer; the server stops working on it all the same."""
    async with (
        serve(Settings(model="m")) as server,
        picker(parse(CONFIG % server.url, EndpointPickerConfig)) as running,
    ):
        ports, parts = running
        await until(lambda: parts.readiness.ready)
        port, admin = any_port(43), free_port()
        config = gateway(ports.grpc, port, admin, waits=True)
        async with envoy(config, tmp_path), aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            client = Client(session, port, admin)
            await client.ready()
            await until(lambda: total(parts, "epp_inflight_requests") == 0)
            ended = total(parts, "epp_releases_total", by="access_log")
            short = group.create_task(client.ask("batch", 200))
            await until(lambda: total(parts, "epp_inflight_requests") == 1)
            long = group.create_task(client.ask("batch", 100_000))
            await until(lambda: total(parts, "epp_inflight_requests") == 2)
            waited = group.create_task(client.ask("batch", 100_000))
            await short
            await until(lambda: total(parts, "epp_releases_total", by="access_log") == ended + 1)
            await until(lambda: total(parts, "epp_inflight_requests") == 2)
            assert (await client.ask("high", 1))[0] == 200
            assert (await waited)[0] == 429
            while await aborted(session, server.url) < 1:  # noqa: ASYNC110 - another process would have no event
                await asyncio.sleep(0.01)
            assert not long.done()
            long.cancel()
    assert total(parts, "epp_evictions_total") == 1


async def test_where_envoy_closes_the_stream_with_the_pick_nothing_is_taken_back(tmp_path):
    """As in a filter that skips the answer's head: the request waits its turn."""
    async with (
        serve(Settings(model="m")) as server,
        picker(parse(CONFIG % server.url, EndpointPickerConfig)) as running,
    ):
        ports, parts = running
        await until(lambda: parts.readiness.ready)
        port, admin = any_port(42), free_port()
        config = gateway(ports.grpc, port, admin, waits=False)
        async with envoy(config, tmp_path), aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            client = Client(session, port, admin)
            await client.ready()
            await until(lambda: total(parts, "epp_inflight_requests") == 0)
            asked = [group.create_task(client.ask("batch", 60)) for _ in range(2)]
            await until(lambda: total(parts, "epp_inflight_requests") == 2)
            asked.append(group.create_task(client.ask("high", 1)))
            answers = [(await one)[0] for one in asked]
    assert answers == [200] * 3
    assert total(parts, "epp_evictions_total") == 0
