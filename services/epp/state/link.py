"""Exchange with the other replicas of one pool through Redis. Nobody waits for it.

While there is news, one round trip each `Pacing.batch` tells ours and asks for the others'. When there is none, a read
waits in Redis, and the first news on either side goes on at once. Every operation has a timeout. While Redis does not
answer, it is tried again, less and less often; what is to be told waits in the outbox.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import structs
from redis.exceptions import RedisError

from services.epp.state.condition import Condition
from services.epp.state.lag import Lag, Offset
from services.epp.state.lease import encode_lease
from services.epp.state.pace import Pace
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
FAILURES = (RedisError, OSError, TimeoutError)

Command = Sequence[bytes | str | int | float]


class Client(Protocol):
    """What is asked of a Redis client, whatever the topology behind it."""

    def execute(self, *commands: Command) -> Awaitable[list[object]]:
        """Send commands, at once where that is possible, and return their answers. A refusal is an answer."""

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """Times are in seconds."""

    timeout: float = 1.0
    """Of one operation."""
    batch: float = 0.02
    """Between two writes, and between two reads, on average: what comes meanwhile goes together."""
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
        self._wake = asyncio.Event()
        self._urgent = False
        """Others wait for what there is to tell."""
        share.outbox.urgent = self._hurry
        self._unsent: tuple[Batch, float] | None = None
        """What did not get through yet, and since when."""
        self._size = 0
        """Of the batch on its way, in bytes."""
        self._beat: Id | None = None
        """The last heartbeat."""
        self._beat_at = LONG_AGO
        self._writes, self._reads = Pace(pacing.batch), Pace(pacing.batch)
        self._last: Id = BEGINNING
        self._own: Id = BEGINNING
        """What we wrote last."""
        self._offset = Offset()
        self._listens = False
        """A read waits in Redis."""
        self._came: list[object] | None = None
        """What it got."""
        self._asks = True
        """The next exchange asks even if it has nothing to tell: after a start and a failure. Else the read that waits does."""

    async def run(self) -> None:
        """Exchange until cancelled."""
        part, pause = self._share.pool.name, FIRST_PAUSE
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    try:
                        await self._rest()
                        if not await self.exchange():
                            await self._listen(tasks)
                        self._condition.worked(part)
                        pause = FIRST_PAUSE
                    except FAILURES as error:
                        self._share.inbox.expire()
                        self._asks = True
                        self._beat_at = LONG_AGO  # the others may have given up on us: all loads at once
                        self._condition.failed(part, error)
                        await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
                        pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self._condition.forget(part)

    async def exchange(self) -> bool:
        """Tell what there is to tell, take in what others told; return whether it is too soon to listen for more."""
        batch = self._next()
        commands = {**self._telling(batch), **(self._asking() if batch is not None or self._asks else {})}
        if not commands:
            return False
        began = self._clock()
        if batch is not None:
            self._writes.went(began)
        answers = dict(zip(commands, await self._do(*commands.values()), strict=True))
        refusals = [answer for answer in answers.values() if isinstance(answer, RedisError)]
        good = {name: answer for name, answer in answers.items() if not isinstance(answer, RedisError)}
        if batch is not None:
            self._told(batch, good, began)
        heard = False
        if "read" in good:
            heard = await self._heard(self._answered(good))
        if refusals:
            raise refusals[0]
        return heard or (batch is not None and self._reads.due > self._clock())

    def _next(self) -> Batch | None:
        """Return the batch that is to be told now, which may be one that did not get through."""
        now = self._clock()
        if self._unsent is None:
            batch = self._share.outbox.take(whole=now >= self._beat_at)
            self._urgent = False
            if batch is None:
                return None
            self._unsent = (batch, now)
        batch, since = self._unsent
        late = round(1000 * (now - since))
        return structs.replace(batch, late_ms=late) if late else batch

    def _telling(self, batch: Batch | None) -> dict[str, Command]:
        """Return the commands that tell `batch`; with a heartbeat, also whether the last one is still there."""
        if batch is None:
            return {}
        share, data = self._share, encode(batch)
        self._size = len(data)
        commands: dict[str, Command] = {}
        if batch.whole and self._beat is not None:
            beat = text_of(self._beat)
            commands["check"] = ("XRANGE", share.stream, beat, beat)
        commands["tell"] = ("XADD", share.stream, "MAXLEN", "~", self._pacing.length, "*", FIELD, data)
        if batch.whole:
            lease = share.lease(degraded=self._condition.degraded_seconds, lag=self._lag.seconds)
            milliseconds = round(self._pacing.lease * 1000)
            commands["lease"] = ("SET", share.key, encode_lease(lease), "PX", milliseconds)
        return commands

    def _asking(self) -> dict[str, Command]:
        """Return the commands that ask what others told, unless a read waits for that already."""
        share = self._share
        if not share.pool.resolved or self._listens:  # before that, whom the news are of is not known
            return {}
        commands: dict[str, Command] = {}
        if not self._offset.known:
            commands["newest"] = ("XREVRANGE", share.stream, "+", "-", "COUNT", 1)
        commands["read"] = ("XREAD", "COUNT", PAGE, "STREAMS", share.stream, text_of(self._last))
        return commands

    def _told(self, batch: Batch, answers: dict[str, object], began: float) -> None:
        """Note what became of `batch`, which was sent at `began`."""
        if not answers.get("check", True):
            # Redis has lost what it had: the latest picks are told again.
            self._beat = None
            self._share.outbox.seed()
        if "tell" not in answers:
            return
        now, id_ = self._clock(), id_of(answers["tell"])
        self._unsent, self._own = None, id_
        self._share.bytes += self._size
        self._offset.hear(id_[0] / 1000, began, now)
        self._lag.sent(batch, began, now)
        if id_ < self._last:
            self._last = BEGINNING  # another Redis, whose clock or copy is behind: read all of it
        if batch.whole:
            self._beat = id_
            self._beat_at = LONG_AGO if batch.late_ms else now + self._pacing.lease / BEATS

    def _answered(self, answers: dict[str, object]) -> object:
        for id_, _ in entries_of(answers.get("newest", [])):
            if not self._offset.known:
                self._offset.guess(id_[0] / 1000, self._clock())
        return answers["read"]

    async def _heard(self, answer: object) -> bool:
        """Take in what a read got; return whether others told anything."""
        share, heard = self._share, self._share.inbox.heard
        entries, news = first_of(answer), False
        turn = heard.entries
        for id_, data in entries:
            news |= self._take(id_, data)
            if heard.entries - turn > TURN:
                turn = heard.entries
                await asyncio.sleep(0)
        if entries:
            self._reads.went(self._clock())
        if len(entries) >= PAGE:
            self._reads.hurry()  # there is more
            return True
        share.inbox.expire()
        self._asks = False
        if not share.warm:
            share.warm = True
            self._warmed()
        return news

    def _take(self, id_: Id, data: bytes) -> bool:
        """Take in an entry; return whether it is another replica's."""
        if id_ <= self._last:
            return False  # a read that waited got it before
        self._last = id_
        if id_ == self._own:
            self._share.inbox.own(data)
            return False
        age = self._offset.age(id_[0] / 1000, self._clock())
        batch = self._share.inbox.take(data, age)
        if batch is None:
            return False
        self._lag.heard(batch, age)
        return True

    async def _rest(self) -> None:
        """Wait until it is time for the next exchange: urgent news wait for the last write only."""
        while (left := self._due() - self._clock()) > 0:
            await self._woken(left)
            await self._collect()

    def _due(self) -> float:
        return self._writes.due if self._urgent else self._reads.due

    async def _listen(self, tasks: asyncio.TaskGroup) -> None:
        """Wait for the first news, ours or others'; no longer than what is not urgent may wait."""
        if not self._listens and self._share.warm and self._share.pool.resolved:
            self._listens = True
            tasks.create_task(self._blocked())
        if not self._urgent and self._came is None:
            await self._woken(LAZY)
        await self._collect()

    async def _collect(self) -> None:
        """Take in what the read got that waited, if it is back."""
        if self._came is None:
            return
        (answer,), self._came, self._listens = self._came, None, False
        if isinstance(answer, Exception):
            self._asks = True  # and will know whether Redis is away
        else:
            await self._heard(answer)

    async def _blocked(self) -> None:
        """Wait in Redis until there is something new, or no longer."""
        stream, last = self._share.stream, text_of(self._last)
        block = round(BLOCK * 1000)
        try:
            command = ("XREAD", "COUNT", PAGE, "BLOCK", block, "STREAMS", stream, last)
            self._came = await self._do(command, more=BLOCK)
        except FAILURES as error:
            self._came = [error]
        self._wake.set()

    async def _woken(self, seconds: float) -> None:
        """Wait until something happened, or for so long."""
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        self._wake.clear()
        timer.cancel()

    def _hurry(self) -> None:
        if not self._urgent:
            self._urgent = True
            self._wake.set()

    async def _do(self, *commands: Command, more: float = 0.0) -> list[object]:
        async with asyncio.timeout(self._pacing.timeout + more):
            return await self._client.execute(*commands)
