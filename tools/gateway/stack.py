"""Start everything, wait until it is healthy, and keep it until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from tools.gateway.children import Children
from tools.gateway.console import Console
from tools.gateway.envoy.addresses import EPP_CONTROL, LOOPBACK
from tools.gateway.plan import SERVICES, Plan
from tools.gateway.probes import accepts, answers, get, pongs, until, usable_members
from tools.gateway.routes import Routes

READY_SECONDS = 60.0
"""Far more than a loaded machine needs; what is not up by then will not come."""


class NotReady(RuntimeError):
    """A part did not become healthy in time. The message is a sentence for the user."""


class Ready(msgspec.Struct, frozen=True):
    """What the line `ready {json}` says."""

    gateway: str
    admin: str
    metrics: dict[str, str]
    models: list[str]
    endpoints: dict[str, list[str]]
    redis: str


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


@contextlib.asynccontextmanager
async def running(plan: Plan, routes: Routes, run_dir: Path, console: Console) -> AsyncIterator[Ready]:
    """Run the stack of `plan` for as long as the block lasts.

    Raises an exception group with `ChildDied` when a process ends by itself, `NotReady` when one does not come up.
    """
    async with asyncio.TaskGroup() as group:
        children = Children(run_dir, group, echo=plan.options.log_level == "debug", say=console.say)
        try:
            yield await _start(children, plan, routes, run_dir, console)
        finally:
            console.say("stopping")
            await children.stop()


async def _start(children: Children, plan: Plan, routes: Routes, run_dir: Path, console: Console) -> Ready:
    ports = plan.ports
    if plan.redis_command is not None:
        await children.start(plan.redis_command)
    for command in (*plan.services, *plan.servers):
        await children.start(command)
    # While they start, in their own processes: building the configuration takes half a second of this one.
    await asyncio.to_thread(_write_envoy_config, plan, routes, run_dir / "envoy.json")
    if plan.redis_command is not None:
        await _reached("redis", lambda: pongs(ports.redis), console)
    services = plan.service_ports.values()
    await _reached("services", lambda: _all(accepts(service.grpc) for service in services), console)
    # Envoy asks for the pools' members as soon as it runs, and a refused question costs it a pause.
    await children.start(plan.envoy)
    if plan.server_urls:
        count = f"{len(plan.server_urls)} model servers"
        await _reached(count, lambda: _all(answers(f"{url}/health") for url in plan.server_urls), console)
    await _reached("metrics", lambda: _all(answers(url) for url in _metrics(plan).values()), console)
    await _reached("Envoy and its view of services and pools", lambda: _envoy_sees_all(plan), console)
    await _reached("gateway", lambda: answers(f"{_gateway(plan)}/v1/models"), console)
    return await _ready(plan)


def _write_envoy_config(plan: Plan, routes: Routes, path: Path) -> None:
    # Imported here because Envoy's API definitions take a second to load, in which the processes start.
    from tools.gateway.envoy import bootstrap  # noqa: PLC0415

    path.write_text(bootstrap.to_json(bootstrap.build(routes, plan.addresses())))


async def _reached(what: str, ask: Callable[[], Awaitable[bool]], console: Console) -> None:
    console.wait_for(what)
    try:
        async with asyncio.timeout(READY_SECONDS):
            await until(ask)
    except TimeoutError:
        raise NotReady(f"{what}: not healthy after {READY_SECONDS:.0f} s") from None
    console.done(what)


async def _all(questions: Iterable[Awaitable[bool]]) -> bool:
    return all(await asyncio.gather(*questions))


async def _envoy_sees_all(plan: Plan) -> bool:
    """Say whether Envoy is live, finds the services healthy, and has got every pool's members from the EPP."""
    admin = f"http://{LOOPBACK}:{plan.ports.admin}"
    if not await answers(f"{admin}/ready"):
        return False
    members = usable_members(await get(f"{admin}/clusters?format=json") or b"{}")
    wanted = {f"pool-{pool}": len(plan.endpoints.get(pool, ("",))) for pool in plan.pools}
    wanted |= {**dict.fromkeys(SERVICES, 1), **dict.fromkeys(("epp", EPP_CONTROL), plan.options.epp_replicas)}
    return all(len(members.get(name, ())) >= count for name, count in wanted.items())


async def _ready(plan: Plan) -> Ready:
    admin = f"http://{LOOPBACK}:{plan.ports.admin}"
    members = usable_members(await get(f"{admin}/clusters?format=json") or b"{}")
    models = msgspec.json.decode(await get(f"{_gateway(plan)}/v1/models") or b'{"data":[]}', type=_Models)
    return Ready(
        gateway=_gateway(plan),
        admin=admin,
        metrics=_metrics(plan),
        models=[model.id for model in models.data],
        endpoints={
            pool: [f"http://{host}" for host in members.get(f"pool-{pool}", [])] for pool in plan.pools
        },
        redis=plan.redis_url,
    )


def _gateway(plan: Plan) -> str:
    return f"http://{LOOPBACK}:{plan.ports.gateway}"


def _metrics(plan: Plan) -> dict[str, str]:
    return {name: f"http://{LOOPBACK}:{ports.metrics}/metrics" for name, ports in plan.service_ports.items()}
