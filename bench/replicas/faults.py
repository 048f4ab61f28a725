"""Things that happen to Redis and to replicas while they are under load, one by one, each on a stack of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field

import msgspec
from redis.asyncio import Redis

from bench.replicas.proxy import Proxy
from bench.replicas.readings import STREAM
from bench.replicas.stack import Stack

GARBAGE_SECONDS = 0.02
UNKNOWN_VERSION = msgspec.msgpack.encode([999, "somebody", 1, False, {"of": "another time"}])
SKEW = 300.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What a fault can lay its hands on."""

    stack: Stack
    proxies: Mapping[str, Proxy]
    """By replica."""
    redis: Redis
    """A connection of its own, past the proxies."""


Act = Callable[[Stage], Coroutine[None, None, None]]


async def _nothing(_: Stage) -> None:
    """Leave everything as it is."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, and how it ends."""

    name: str
    begin: Act = _nothing
    end: Act = _nothing
    meanwhile: Act | None = None
    """Runs from the beginning to the end."""
    blind: tuple[int, ...] = ()
    """Which replicas lose Redis, counted from 0."""
    lost: bool = False
    """The second replica is away."""
    skew: Mapping[str, float] = field(default_factory=dict)


async def _slow(stage: Stage) -> None:
    for proxy in stage.proxies.values():
        proxy.become("slow")


async def _stalled(stage: Stage) -> None:
    for proxy in stage.proxies.values():
        proxy.become("stalled")


async def _one_stalled(stage: Stage) -> None:
    stage.proxies["epp-2"].become("stalled")


async def _open(stage: Stage) -> None:
    for proxy in stage.proxies.values():
        proxy.become("open")


async def _kill_redis(stage: Stage) -> None:
    stage.stack.kill("redis")


async def _start_redis(stage: Stage) -> None:
    stage.stack.start("redis")


async def _restart_redis(stage: Stage) -> None:
    stage.stack.kill("redis")
    stage.stack.start("redis")


async def _freeze(stage: Stage) -> None:
    os.killpg(stage.stack.group("redis"), signal.SIGSTOP)


async def _thaw(stage: Stage) -> None:
    os.killpg(stage.stack.group("redis"), signal.SIGCONT)


async def _fill(stage: Stage) -> None:
    await stage.redis.config_set("maxmemory", 1)


async def _make_room(stage: Stage) -> None:
    await stage.redis.config_set("maxmemory", 0)


async def _demote(stage: Stage) -> None:
    # Nobody is there: it stays a replica that has lost its primary, as one that is not failed over yet.
    await stage.redis.replicaof("127.0.0.1", "1")


async def _promote(stage: Stage) -> None:
    await stage.redis.replicaof("NO", "ONE")


async def _lock(stage: Stage) -> None:
    await stage.redis.config_set("requirepass", "unknown to the replicas")
    await stage.redis.client_kill_filter(_type="normal", skipme=True)


async def _unlock(stage: Stage) -> None:
    await stage.redis.config_set("requirepass", "")


async def _garbage(stage: Stage) -> None:
    while True:
        for data in (os.urandom(64), b"", UNKNOWN_VERSION):
            await stage.redis.xadd(STREAM, {b"b": data})
        await stage.redis.xadd(STREAM, {b"of another field": b"1"})
        await asyncio.sleep(GARBAGE_SECONDS)


async def _kill_replica(stage: Stage) -> None:
    stage.stack.kill("epp-2")


async def _start_replica(stage: Stage) -> None:
    stage.stack.start("epp-2")


ALL = (0, 1, 2)
FAULTS = (
    Fault("none"),
    Fault("a replica killed", _kill_replica, _start_replica, lost=True),
    Fault("Redis slow by 1 s", _slow, _open, blind=ALL),
    Fault("Redis stalled", _stalled, _open, blind=ALL),
    Fault("Redis frozen", _freeze, _thaw, blind=ALL),
    Fault("one replica cut off", _one_stalled, _open, blind=(1,)),
    Fault("Redis stopped", _kill_redis, _start_redis, blind=ALL),
    Fault("Redis restarted empty", _restart_redis),
    Fault("Redis full", _fill, _make_room, blind=ALL),
    Fault("Redis read-only", _demote, _promote, blind=ALL),
    Fault("Redis refuses", _lock, _unlock, blind=ALL),
    Fault("garbage in the stream", meanwhile=_garbage),
    Fault("clocks 5 min apart", skew={"epp-2": SKEW, "epp-3": -SKEW}),
)


@contextlib.asynccontextmanager
async def between(stage: Stage, fault: Fault) -> AsyncIterator[None]:
    """Let `fault` last as long as the block."""
    await fault.begin(stage)
    work = asyncio.create_task(fault.meanwhile(stage)) if fault.meanwhile else None  # noqa: TID251 - ends below
    try:
        yield
    finally:
        if work is not None:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        await fault.end(stage)
