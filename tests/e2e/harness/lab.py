"""Envoy, a backend and scripted servers put together: a test says which listeners it wants and gets them running."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.harness import config
from tests.e2e.harness.backend import Backend, backend_running
from tests.e2e.harness.envoy import Config, Envoy, envoy_running
from tests.e2e.harness.scripted import Script, Scripted, scripted_running


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are that a plan may name."""

    backend: int
    dead: int
    """A port that refuses every connection for as long as the lab runs."""

    def list(self, *ports: int) -> str:
        """Return `ports` as an endpoint list: "ip:port,ip:port"."""
        return ",".join(f"127.0.0.1:{port}" for port in ports)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a test module wants to run. The clusters `ext` (scripted servers) and `backend` are always there."""

    listeners: Sequence[Config]
    scripts: Mapping[str, Script] = field(default_factory=dict)
    clusters: Sequence[Config] = ()


@dataclass(frozen=True, slots=True)
class Lab:
    """A running lab."""

    envoy: Envoy
    backend: Backend
    scripted: Scripted
    places: Places


def chain(
    name: str, scripts: Sequence[Script], routes: Sequence[Config], **options: object
) -> tuple[Plan, list[str]]:
    """Return a plan of one listener with a filter per script, and the filters' names (`name.1`, `name.2` …)."""
    named = {f"{name}.{number}": script for number, script in enumerate(scripts, 1)}
    filters = [_filter(key, script) for key, script in named.items()]
    return Plan([config.listener(name, filters, routes, **options)], named), list(named)


def _filter(name: str, script: Script) -> Config:
    return config.ext_proc(name, script.mode, **script.options)  # type: ignore[arg-type]  # fields of any type


def together(*plans: Plan) -> Plan:
    """Return one plan that holds all of `plans`."""
    scripts = {name: script for plan in plans for name, script in plan.scripts.items()}
    listeners = [listener for plan in plans for listener in plan.listeners]
    return Plan(listeners, scripts, [cluster for plan in plans for cluster in plan.clusters])


@contextlib.asynccontextmanager
async def lab(folder: Path, plan: Callable[[Places], Plan]) -> AsyncIterator[Lab]:
    """Run what `plan` asks for until the block ends; Envoy's files go to `folder`."""
    async with backend_running() as backend, contextlib.AsyncExitStack() as stack:
        places = Places(backend.port, stack.enter_context(dead_port()))
        wanted = plan(places)
        scripted = await stack.enter_async_context(scripted_running(wanted.scripts))
        servers = config.cluster("ext", [scripted.port], http2=True)
        clusters = [servers, config.cluster("backend", [backend.port]), *wanted.clusters]
        bootstrap = config.bootstrap(wanted.listeners, clusters)
        # In a thread: Envoy may ask servers of this loop before it calls itself ready.
        envoy = await asyncio.to_thread(stack.enter_context, envoy_running(bootstrap, folder))
        yield Lab(envoy, backend, scripted, places)


@contextlib.contextmanager
def dead_port() -> Iterator[int]:
    """Reserve a port on which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]
