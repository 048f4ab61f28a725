"""The picker in this process, stand-ins for vLLM servers, and real Envoy between them and a client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from services.epp.app import build
from services.epp.config import EndpointPickerConfig
from services.extproc.config import Limits, Listen
from services.extproc.lifecycle import Parts, Ports, running

ENVOY = Path(__file__).parents[2] / ".venv" / "bin" / "envoy"
METRICS = "vllm:num_requests_waiting 0.0\nvllm:num_requests_running 0.0\n"
LOOPBACK = "127.0.0.1"


@dataclass(slots=True)
class FakeServer:
    """Answers chats and `/metrics`, and counts both."""

    address: str = ""
    metrics: str = METRICS
    status: int = 200
    hold: asyncio.Event | None = None
    """Answers to `/metrics` wait for it."""
    thinks: asyncio.Event | None = None
    """Answers to chats wait for it."""
    seen: Counter[str] = field(default_factory=Counter)


@contextlib.asynccontextmanager
async def fake_server(host: str = LOOPBACK, port: int = 0) -> AsyncIterator[FakeServer]:
    """Run a server, on a free port unless told which."""
    fake = FakeServer()

    async def metrics(_: web.Request) -> web.Response:
        fake.seen["metrics"] += 1
        if fake.hold is not None:
            await fake.hold.wait()
        return web.Response(text=fake.metrics, status=fake.status)

    async def chat(request: web.Request) -> web.Response:
        fake.seen["chat"] += 1
        await request.read()
        if fake.thinks is not None:
            await fake.thinks.wait()
        version, pool = request.version, request.headers.get("x-pool", "")
        return web.json_response(
            {"served": fake.address, "http": f"{version.major}.{version.minor}", "pool": pool}
        )

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.post("/v1/chat/completions", chat)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    fake.address = "{}:{}".format(*runner.addresses[0][:2])
    try:
        yield fake
    finally:
        for event in (fake.hold, fake.thinks):
            if event is not None:
                event.set()
        await runner.cleanup()


def free_port() -> int:
    """Return a port that was free a moment ago; also a server that refuses connections."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def picker(
    config: EndpointPickerConfig, parts: Parts | None = None
) -> AsyncIterator[tuple[Ports, Parts]]:
    """Run the whole picker on free ports."""
    parts = parts or Parts()
    listen = Listen(port=0, health_port=0, metrics_port=0, grace_seconds=0)
    async with running(lambda parts: build(config, parts), listen, Limits(), parts) as ports:
        yield ports, parts


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what is bound to happen; pytest's timeout is the bound."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event to offer
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def envoy(config: dict[str, Any], folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run Envoy with `config`. A test may end it early."""
    path = folder / f"envoy-{config['node']['id']}.json"
    path.write_text(json.dumps(config))
    log = (folder / "envoy.log").open("wb")
    options = ("-c", str(path), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
    process = await asyncio.create_subprocess_exec(str(ENVOY), *options, stdout=log, stderr=log)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        log.close()


async def chat(
    session: aiohttp.ClientSession, url: str, prompt: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Send one chat through the gateway; retries while Envoy is still starting."""
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    while True:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
                return answer.status, await answer.json(content_type=None)
        await asyncio.sleep(0.05)


def any_port(seed: int) -> int:
    """Return a port for Envoy's listener, which has no way to tell which one the system chose."""
    return random.Random(seed).randint(21300, 21399)


def envoy_config(
    *,
    epp: int,
    port: int,
    digest: str = "",
    pools: Sequence[str] = ("llama",),
    fail_open: bool = False,
    node: str = "test",
    action: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Return the smallest gateway: the pick, membership by EDS, ends by the access log.

    With `digest` the picker gets headers only and that digest as metadata, as from a router in front of it; without,
    it gets the body. Every route leads to the first of `pools`, with the settings of `action`.
    """
    pick = _ext_proc("NONE" if digest else "BUFFERED", fail_open=fail_open)
    filters = [*([_attach(digest)] if digest else []), pick, _router()]
    http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "node": {"id": node, "cluster": "test"},
        "static_resources": {
            "listeners": [
                {
                    "name": "edge",
                    "address": _address(port),
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "http",
                                    "typed_config": {
                                        "@type": http,
                                        "stat_prefix": "edge",
                                        "access_log": [_access_log()],
                                        "http_filters": filters,
                                        "route_config": {"virtual_hosts": [_routes(pools[0], action or {})]},
                                    },
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [_service(epp), *(_pool(name, fail_open=fail_open) for name in pools)],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _grpc() -> dict[str, Any]:
    return {"envoy_grpc": {"cluster_name": "epp"}}


def _access_log() -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"
    common = {
        "log_name": "requests",
        "grpc_service": _grpc(),
        "transport_api_version": "V3",
        "buffer_flush_interval": "0.005s",
    }
    return {
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": {"@type": kind, "common_config": common},
    }


def _attach(digest: str) -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config"
    metadata = [{"metadata_namespace": "gw.bbr", "value": {"digest": digest}}]
    return {
        "name": "envoy.filters.http.set_metadata",
        "typed_config": {"@type": kind, "metadata": metadata},
    }


def _ext_proc(body: str, *, fail_open: bool) -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"
    modes = {"request_header_mode": "SEND", "request_body_mode": body, "response_header_mode": "SKIP"}
    return {
        "name": "epp",
        "typed_config": {
            "@type": kind,
            "grpc_service": _grpc(),
            "processing_mode": modes,
            "message_timeout": "5s",
            "failure_mode_allow": fail_open,
            "request_attributes": ["xds.cluster_name", "xds.node.id"],
            "metadata_options": {
                "forwarding_namespaces": {"untyped": ["gw.bbr"]},
                "receiving_namespaces": {"untyped": ["envoy.lb", "gw.epp", "gw.bbr"]},
            },
        },
    }


def _router() -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    return {"name": "envoy.filters.http.router", "typed_config": {"@type": kind}}


def _routes(pool: str, action: Mapping[str, object]) -> dict[str, Any]:
    retry = {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 2}
    route = {"match": {"prefix": "/"}, "route": {"cluster": f"pool-{pool}", "retry_policy": retry, **action}}
    return {"name": "all", "domains": ["*"], "routes": [route]}


def _service(port: int) -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": kind, "explicit_http_config": {"http2_protocol_options": {}}}
    member = {"endpoint": {"address": _address(port)}}
    return {
        "name": "epp",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {"cluster_name": "epp", "endpoints": [{"lb_endpoints": [member]}]},
    }


def _pool(name: str, *, fail_open: bool) -> dict[str, Any]:
    api = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [_grpc()]}
    return {
        "name": f"pool-{name}",
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": {"resource_api_version": "V3", "api_config_source": api}},
        "load_balancing_policy": {
            "policies": [_policy("override_host", "OverrideHost", **_override(fail_open=fail_open))]
        },
    }


def _override(*, fail_open: bool) -> dict[str, Any]:
    def key(name: str) -> dict[str, Any]:
        return {"key": "envoy.lb", "path": [{"key": name}]}

    nobody = _policy(
        "subset",
        "Subset",
        fallback_policy="NO_FALLBACK",
        subset_selectors=[{"keys": ["never"]}],
        subset_lb_policy={"policies": [_policy("round_robin", "RoundRobin")]},
    )
    return {
        "override_host_sources": [{"metadata": key("x-gateway-destination-endpoint")}],
        "selected_host_key": key("x-gateway-destination-endpoint-served"),
        "fallback_policy": {"policies": [_policy("round_robin", "RoundRobin") if fail_open else nobody]},
    }


def _policy(name: str, message: str, **fields: Any) -> dict[str, Any]:
    kind = f"type.googleapis.com/envoy.extensions.load_balancing_policies.{name}.v3.{message}"
    config = {"name": f"envoy.load_balancing_policies.{name}", "typed_config": {"@type": kind, **fields}}
    return {"typed_extension_config": config}
