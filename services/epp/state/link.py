"""Exchange with the other replicas of one pool through Redis. Nobody waits for it.

Every operation has a timeout. While Redis does not answer, it is tried again, less and less often; what is to be told
waits in the outbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import structs
from redis.exceptions import RedisError

from services.epp.state.condition import Condition
from services.epp.state.lag import Lag
from services.epp.state.lease import encode_lease
from services.epp.state.replies import BEGINNING, Id, entries_of, first_of, id_of, text_of
from services.epp.state.share import Share
from services.epp.state.wire import FIELD, Batch, encode

LAZY = 0.05
"""Seconds that news may wait which nobody waits for: what scrapes changed. Also how often an idle replica wakes up."""
PAGE = 100
"""Batches read at once."""
TURN = 100
"""Entries taken in, some milliseconds, after which requests that wait are decided."""
BLOCK = 0.2
"""Seconds that a read waits for something new."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Seconds between attempts while Redis does not answer; the longest leaves time to be in step within two seconds."""
BEATS = 3
"""Heartbeats in a lease: two may get lost."""
LONG_AGO = -math.inf


class Client(Protocol):
    """What is asked of a Redis client, whatever the topology behind it."""

    def execute_command(self, *args: bytes | str | float) -> Awaitable[object]:
        """Send a command and return its answer."""

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """Times are in seconds."""

    timeout: float = 1.0
    """Of one operation."""
    batch: float = 0.02
    """Between two writes, and between two reads: what comes meanwhile goes together."""
    lease: float = 3.0
    length: int = 100_000
    """Batches that the stream keeps."""
    warm: float = 5.0
    """The longest that a start waits for what the others know."""


class Link:
    """The exchange of one pool. `warmed` is called when all that was there at the start has been read."""

    def __init__(
        self,
        client: Client,
        share: Share,
        *,
        pacing: Pacing,
        clock: Callable[[], float],
        rng: random.Random,
        condition: Condition,
        lag: Lag,
        warmed: Callable[[], None],
    ) -> None:
        self._client = client
        self._share = share
        self._pacing = pacing
        self._clock = clock
        self._rng = rng
        self._condition = condition
        self._lag = lag
        self._warmed = warmed
        self._news = asyncio.Event()
        share.outbox.urgent = self._news.set
        self._unsent: tuple[Batch, float] | None = None
        """What did not get through yet, and since when."""
        self._beat: Id | None = None
        """The last heartbeat."""
        self._wrote_at = self._beat_at = self._read_at = LONG_AGO
        self._last: Id = BEGINNING
        self._ahead: float | None = None
        """By how much the stream's clock is ahead of ours."""

    async def run(self) -> None:
        """Exchange until cancelled."""
        name = self._share.pool.name
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(f"{name} write", self.write))
            group.create_task(self._forever(f"{name} read", self.read))

    async def _forever(self, part: str, step: Callable[[], Awaitable[bool]]) -> None:
        pause = FIRST_PAUSE
        try:
            while True:
                try:
                    if await step():
                        self._condition.worked(part)
                        pause = FIRST_PAUSE
                except (RedisError, OSError, TimeoutError) as error:
                    self._condition.failed(part, error)
                    await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
                    pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self._condition.forget(part)

    async def write(self) -> bool:
        """Tell what there is to tell, after a wait for it; return whether anything was."""
        if self._unsent is None:
            await self._gather()
            batch = self._share.outbox.take(whole=self._clock() >= self._beat_at)
            if batch is None:
                return False
            self._unsent = (batch, self._clock())
        batch, since = self._unsent
        late = round(1000 * (self._clock() - since))
        try:
            await self._send(structs.replace(batch, late_ms=late) if late else batch)
        except BaseException:
            self._beat_at = LONG_AGO  # the others may have given up on us: all loads at once
            raise
        return True

    async def read(self) -> bool:
        """Take in what others told; return True."""
        share = self._share
        if not share.pool.resolved:
            await asyncio.sleep(LAZY)  # whom the news are of is not known yet
            return False
        await self._pause(self._read_at)
        self._read_at = self._clock()
        try:
            entries = await self._page()
        except BaseException:
            share.inbox.expire()
            raise
        heard = share.inbox.heard
        turn = heard.entries
        for id_, data in entries:
            self._take(id_, data)
            if heard.entries - turn > TURN:
                turn = heard.entries
                await asyncio.sleep(0)
        if len(entries) < PAGE:
            share.inbox.expire()
            if not share.warm:
                share.warm = True
                self._warmed()
        else:
            self._read_at = LONG_AGO  # there is more: go on at once
        return True

    async def _gather(self) -> None:
        """Wait until something is urgent, but no longer than the rest may wait; then let more come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAZY):
                await self._news.wait()
        await self._pause(self._wrote_at)
        self._news.clear()

    async def _pause(self, since: float) -> None:
        await asyncio.sleep(max(0.0, since + self._pacing.batch - self._clock()))

    async def _send(self, batch: Batch) -> None:
        share, pacing, data = self._share, self._pacing, encode(batch)
        if batch.whole:
            await self._check()
        self._wrote_at = sent_at = self._clock()
        last = self._last
        self._lag.sending(batch, sent_at)
        answer = await _do(
            self._client,
            "XADD",
            share.stream,
            "MAXLEN",
            "~",
            pacing.length,
            "*",
            FIELD,
            data,
            within=pacing.timeout,
        )
        now, id_ = self._clock(), id_of(answer)
        self._unsent = None
        self._ahead = id_[0] / 1000 - (sent_at + now) / 2
        if id_ < last:
            self._last = BEGINNING  # another Redis, whose clock or copy is behind: read all of it
        share.bytes += len(data)
        self._lag.sent(batch, sent_at, now)
        if batch.whole:
            self._beat = id_
            self._beat_at = LONG_AGO if batch.late_ms else now + pacing.lease / BEATS
            lease = share.lease(degraded=self._condition.degraded_seconds, lag=self._lag.seconds)
            milliseconds = round(pacing.lease * 1000)
            await _do(
                self._client,
                "SET",
                share.key,
                encode_lease(lease),
                "PX",
                milliseconds,
                within=pacing.timeout,
            )

    async def _check(self) -> None:
        """Tell the latest picks again when Redis has lost what it had: our last heartbeat is not there."""
        if self._beat is None:
            return
        id_ = text_of(self._beat)
        if not await _do(self._client, "XRANGE", self._share.stream, id_, id_, within=self._pacing.timeout):
            self._beat = None
            self._share.outbox.seed()

    async def _page(self) -> list[tuple[Id, bytes]]:
        stream, timeout = self._share.stream, self._pacing.timeout
        if self._ahead is None:
            newest = await _do(self._client, "XREVRANGE", stream, "+", "-", "COUNT", 1, within=timeout)
            for id_, _ in entries_of(newest):
                self._ahead = id_[0] / 1000 - self._clock()
        block = ("BLOCK", round(BLOCK * 1000)) if self._share.warm else ()
        answer = await _do(
            self._client,
            "XREAD",
            "COUNT",
            PAGE,
            *block,
            "STREAMS",
            stream,
            text_of(self._last),
            within=timeout + BLOCK,
        )
        return first_of(answer)

    def _take(self, id_: Id, data: bytes) -> None:
        now = self._clock()
        age = max(0.0, now + (self._ahead or 0.0) - id_[0] / 1000)
        self._last = id_
        own = self._share.inbox.take(data, age)
        if own:
            self._lag.seen(own, now)
        else:
            self._lag.applied(age)


async def _do(client: Client, *command: bytes | str | float, within: float) -> object:
    async with asyncio.timeout(within):
        return await client.execute_command(*command)
