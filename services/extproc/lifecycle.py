"""The life of a service process: what starts in which order, and how it leaves without breaking a stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry

from services.extproc.budget import Budget
from services.extproc.config import Limits, Listen
from services.extproc.exchange import Service
from services.extproc.health import Health
from services.extproc.observe import Observer, Observers
from services.extproc.prometheus import StreamMetrics, metrics_port
from services.extproc.readiness import Readiness
from services.extproc.server import bind, grpc_server
from services.extproc.servicer import Servicer
from services.extproc.tls import Certificates


@dataclass(frozen=True, slots=True)
class App:
    """What a service gives to its process."""

    service: Service
    handlers: Sequence[grpc.GenericRpcHandler] = ()
    """Further gRPC services on the ext_proc port."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a service's configuration comes from."""

    path: Path
    read: Callable[[], object]
    """Read it again, with the command line's flags put in. Raises `ConfigError`."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a process gives to its service while it is built."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    """For the service's own metrics; `/metrics` shows it."""
    readiness: Readiness = field(default_factory=Readiness)
    observers: Sequence[Observer] = ()
    """Hear about every stream, besides the stream metrics."""
    source: Source | None = None
    """For a service that follows its file; None when the configuration came from elsewhere."""
    pages: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    """Path → JSON, on the metrics port, for callers on this machine alone."""
    details: dict[str, Readiness] = field(default_factory=dict)
    """Further states that gRPC health tells by name; whether requests can be taken does not depend on them."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a running process listens."""

    grpc: int
    health: int | None = None
    metrics: int | None = None


Build = Callable[[Parts], contextlib.AbstractAsyncContextManager[App]]
"""Builds a service; what runs in the background belongs to the block around its `yield`."""


@contextlib.asynccontextmanager
async def running(
    build: Build,
    listen: Listen,
    limits: Limits,
    parts: Parts,
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[Ports]:
    """Run a service while the block runs.

    Start: metrics, the service and its background work, gRPC, health. The end is the reverse: NOT_SERVING, the drain
    delay, streams get their grace, then the background work stops. Raises `BindError` and `ConfigError`.
    """
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        metrics = listen.metrics_port
        if metrics is not None:
            metrics = await enter(metrics_port(parts.registry, listen.host, metrics, parts.pages))
        app = await enter(build(parts))
        observer = Observers([StreamMetrics(app.service.name, parts.registry), *parts.observers])
        health = Health(parts.readiness, parts.details)
        await enter(health.following())
        probes = await enter(_health_port(health, listen, limits))
        budget = Budget(limits.held_bytes)
        servicer = Servicer(
            app.service,
            body_limit=limits.body_bytes,
            budget=budget,
            observer=observer,
            readiness=parts.readiness,
        )
        handlers = [servicer.handler(), *app.handlers]
        server = await enter(grpc_server(handlers, limits, grace=listen.grace_seconds))
        health.add_to(server)
        credentials = Certificates(listen.tls, observer.failed).credentials() if listen.tls else None
        port = bind(server, listen.host, listen.port, credentials)
        await server.start()
        try:
            yield Ports(port, probes, metrics)
        finally:
            await health.leave()
            await sleep(listen.drain_seconds)


@contextlib.asynccontextmanager
async def _health_port(health: Health, listen: Listen, limits: Limits) -> AsyncIterator[int | None]:
    if listen.health_port is None:
        yield None
        return
    async with grpc_server((), limits, grace=0) as server:
        health.add_to(server)
        port = bind(server, listen.host, listen.health_port, None)
        await server.start()
        yield port
