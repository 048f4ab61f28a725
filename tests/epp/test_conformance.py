"""What the reference's conformance suite asks of a gateway and its picker, on real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.epp.config import EndpointPickerConfig
from services.epp.director import Director
from services.extproc.config import parse
from tests.epp.stack import FakeServer, chat, envoy, envoy_config, fake_server, free_port, picker, until

pytestmark = pytest.mark.e2e

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
BY_HEADER = "plugins: [{type: header-based-testing-filter}, {type: random-picker}]\n"
SELECTION = "test-epp-endpoint-selection"
PODS = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
"""Every address of 127.0.0.0/8 is this machine: pods may differ in address, and in port alone."""

Say = Callable[[dict[str, str]], Any]


def config_of(pools: dict[str, list[str]], more: str = "", *, scraped: bool = True) -> EndpointPickerConfig:
    metrics = f"{{enabled: {str(scraped).lower()}, interval_seconds: 0.05}}"
    listed = ", ".join(
        f"{{name: {n}, endpoints: {members}, metrics: {metrics}}}" for n, members in pools.items()
    )
    return parse(f"{HEAD}{more}pools: [{listed}]\n", EndpointPickerConfig)


@contextlib.asynccontextmanager
async def gateway(config: dict[str, Any], folder: Path, port: int) -> AsyncIterator[Say]:
    """Run Envoy; give what sends one chat with some headers through it."""
    async with envoy(config, folder), aiohttp.ClientSession() as session:

        async def say(headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
            return await chat(session, f"http://127.0.0.1:{port}", "hello " * 50, headers)

        yield say


@contextlib.asynccontextmanager
async def pods(*addresses: tuple[str, int]) -> AsyncIterator[list[FakeServer]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(fake_server(host, port)) for host, port in addresses]


async def served(say: Say, selection: str, *, requests: int = 100, concurrent: int = 10) -> Counter[str]:
    """Send requests that ask for some endpoints; return who served how many. All must succeed."""
    places = asyncio.Semaphore(concurrent)

    async def one() -> str:
        async with places:
            status, answer = await say({SELECTION: selection})
            assert status == 200, answer
            return str(answer["served"])

    return Counter(await asyncio.gather(*(one() for _ in range(requests))))


async def test_the_gateway_goes_where_the_picker_says(tmp_path):
    """One, two and all of three pods by address, 100 requests each, 10 at a time; without the header nobody."""
    port, edge = free_port(), free_port()
    async with pods(*((host, port) for host in PODS)) as servers:
        addresses = [server.address for server in servers]
        async with picker(config_of({"llama": addresses}, BY_HEADER)) as (ports, parts):
            await until(lambda: parts.readiness.ready)
            async with gateway(envoy_config(epp=ports.grpc, port=edge), tmp_path, edge) as say:
                for count in (1, 2, 3):
                    assert set(await served(say, ",".join(PODS[:count]))) == set(addresses[:count])
                refused, _ = await say({})

    assert refused == 503


async def test_each_port_of_a_pod_is_an_endpoint(tmp_path):
    """Data parallel: an address alone is all of its ports, with a port it is that one."""
    first, second, edge = free_port(), free_port(), free_port()
    async with pods((PODS[0], first), (PODS[0], second), (PODS[1], first)) as servers:
        one, two, other = (server.address for server in servers)
        async with picker(config_of({"llama": [one, two, other]}, BY_HEADER)) as (ports, parts):
            await until(lambda: parts.readiness.ready)
            async with gateway(envoy_config(epp=ports.grpc, port=edge), tmp_path, edge) as say:
                assert set(await served(say, two, requests=30)) == {two}
                assert set(await served(say, f"{one}, {other}", requests=60)) == {one, other}
                assert set(await served(say, PODS[0], requests=60)) == {one, two}


async def test_the_picker_is_told_who_served(tmp_path, monkeypatch):
    """Also when that was not its first choice: the metadata of the answer names the fallback."""
    told: list[str] = []

    def spy(self: Director, pool: str, decision: str, address: str) -> None:
        told.append(address)

    monkeypatch.setattr(Director, "served", spy)
    dead, edge = f"127.0.0.1:{free_port()}", free_port()
    async with fake_server() as alive:
        members = config_of(
            {"llama": [dead, alive.address]}, "plugins: [{type: random-picker}]\n", scraped=False
        )
        async with picker(members) as (ports, _):
            config = envoy_config(epp=ports.grpc, port=edge)
            _pick_filter(config)["processing_mode"]["response_header_mode"] = "SEND"
            _pick_filter(config)["metadata_options"]["forwarding_namespaces"]["untyped"].append("envoy.lb")
            async with gateway(config, tmp_path, edge) as say:
                answers = [await say({}) for _ in range(10)]
                await until(lambda: len(told) == 10)

    assert {status for status, _ in answers} == {200}
    assert set(told) == {alive.address}


@pytest.mark.parametrize(("fail_open", "expected"), [(True, {200}), (False, {500})])
async def test_without_a_picker_requests_pass_only_where_that_is_allowed(tmp_path, fail_open, expected):
    """Fail-open falls back to the members that Envoy knew last; otherwise the request fails."""
    edge = free_port()
    async with fake_server() as one, fake_server() as two, contextlib.AsyncExitStack() as stack:
        running = picker(config_of({"llama": [one.address, two.address]}))
        async with contextlib.AsyncExitStack() as picking:
            ports, parts = await picking.enter_async_context(running)
            await until(lambda: parts.readiness.ready)
            config = envoy_config(epp=ports.grpc, port=edge, fail_open=fail_open)
            say = await stack.enter_async_context(gateway(config, tmp_path, edge))
            before, _ = await say({})
        after = {(await say({}))[0] for _ in range(10)}

    assert before == 200
    assert after == expected


async def test_weighted_pools_get_their_shares_and_only_their_own_endpoints(tmp_path):
    """70/30 over 200 requests, within the greater of 0.10 and 4.5 sigma."""
    requests, share, edge = 200, 0.7, free_port()
    async with fake_server() as a1, fake_server() as a2, fake_server() as b1, fake_server() as b2:
        pools = {"a": [a1.address, a2.address], "b": [b1.address, b2.address]}
        async with picker(config_of(pools)) as (ports, parts):
            await until(lambda: parts.readiness.ready)
            config = envoy_config(epp=ports.grpc, port=edge, pools=("a", "b"))
            weights = [_weighted("a", 70), _weighted("b", 30)]
            _route(config)["route"] = {"weighted_clusters": {"clusters": weights}}
            async with gateway(config, tmp_path, edge) as say:
                answers = [await say({}) for _ in range(requests)]

    assert {status for status, _ in answers} == {200}
    assert all(answer["served"] in pools[answer["pool"]] for _, answer in answers)
    tolerance = max(0.10, 4.5 * math.sqrt(share * (1 - share) / requests))
    assert abs(sum(answer["pool"] == "a" for _, answer in answers) / requests - share) <= tolerance


async def test_pools_speak_http_1_unless_they_are_said_to_speak_http_2(tmp_path):
    """h2c: a pod that takes nothing but HTTP/2 without TLS."""
    edge, pod = free_port(), free_port()
    async with fake_server() as plain:
        members = config_of({"one": [plain.address], "two": [f"127.0.0.1:{pod}"]}, scraped=False)
        async with picker(members) as (ports, _):
            config = envoy_config(epp=ports.grpc, port=edge, pools=("one", "two"))
            config["static_resources"]["listeners"].append(_http2_pod(pod))
            _cluster(config, "pool-two")["typed_extension_protocol_options"] = _cluster(config, "epp")[
                "typed_extension_protocol_options"
            ]
            to_two = {"match": {"prefix": "/", "headers": [{"name": "two", "present_match": True}]}}
            _routes(config).insert(0, to_two | {"route": {"cluster": "pool-two"}})
            async with gateway(config, tmp_path, edge) as say:
                answers = [await say({}), await say({"two": "yes"})]

    assert [(status, answer["http"]) for status, answer in answers] == [(200, "1.1"), (200, "HTTP/2")]


def _manager(config: dict[str, Any]) -> Any:
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def _routes(config: dict[str, Any]) -> Any:
    return _manager(config)["route_config"]["virtual_hosts"][0]["routes"]


def _route(config: dict[str, Any]) -> Any:
    return _routes(config)[0]


def _pick_filter(config: dict[str, Any]) -> Any:
    return next(f["typed_config"] for f in _manager(config)["http_filters"] if f["name"] == "epp")


def _cluster(config: dict[str, Any], name: str) -> Any:
    return next(c for c in config["static_resources"]["clusters"] if c["name"] == name)


def _weighted(pool: str, weight: int) -> dict[str, Any]:
    """Return a weighted cluster that tells the picker its pool, and the server too, so that it can be compared."""
    kind = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"
    overrides = {"grpc_initial_metadata": [{"key": "x-gateway-pool", "value": pool}]}
    return {
        "name": f"pool-{pool}",
        "weight": weight,
        "request_headers_to_add": [{"header": {"key": "x-pool", "value": pool}}],
        "typed_per_filter_config": {"epp": {"@type": kind, "overrides": overrides}},
    }


def _http2_pod(port: int) -> dict[str, Any]:
    """Return a listener that plays a server which speaks HTTP/2 only, and says what it was spoken to in."""
    http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    body = {"text_format_source": {"inline_string": '{"served": "pod", "http": "%PROTOCOL%"}'}}
    route = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body_format": body},
    }
    manager = {
        "@type": http,
        "stat_prefix": "pod",
        "codec_type": "HTTP2",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    return {
        "name": "pod",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
