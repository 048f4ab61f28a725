"""Listen to the KV events of a pool's members over ZeroMQ, for as long as they are members."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog
import zmq
import zmq.asyncio

from services.epp.config import EVENTS_PORT, REPLAY_PORT, KvEvents
from services.epp.endpoints import Metrics, Server, join, split
from services.epp.kvevents import wire
from services.epp.kvevents.records import Observer, Passed, ReplayOutcome, Trouble
from services.epp.kvevents.stream import MessageStream
from services.epp.kvevents.wire import WireError
from services.epp.pool import Pool

LOOK = 0.2
"""Seconds between two looks at who is a member."""
RECONNECT, RECONNECT_MOST = 100, 5_000
"""Milliseconds before a lost connection is tried again; doubled each time up to the second."""
HEARTBEAT = 5_000
"""Milliseconds: a server that vanished without a word is noticed in twice that."""
TURN = 16
"""Messages in a row after which others get the event loop, some milliseconds of decoding."""


_SENTENCES = {
    Trouble.GAP: "KV events are missing; a replay is asked for",
    Trouble.LOST: "KV events are lost; what the server holds is learnt anew",
    Trouble.RESTART: "the server tells as a new process; what it holds is learnt anew",
    Trouble.FORMAT: "KV events cannot be read; what the server holds is learnt anew",
}


class Listener:
    """One subscription, and one place to ask for replays, for each member of one pool."""

    def __init__(
        self,
        pool: Pool,
        settings: KvEvents,
        *,
        context: zmq.asyncio.Context,
        observer: Observer,
        heard: Callable[[], None],
    ) -> None:
        """`heard` is called when the state of a view may have changed."""
        self._pool = pool
        self._settings = settings
        self._context = context
        self._observer = observer
        self._heard = heard
        self._followed: dict[tuple[str, int], _Followed] = {}

    async def run(self) -> None:
        """Follow whoever is a member, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                here = {(server.address, server.slot): server for server in self._pool.snapshot.servers}
                gone, new = self._followed.keys() - here.keys(), here.keys() - self._followed.keys()
                for key in gone:
                    self._followed.pop(key).task.cancel()
                for key in new:
                    feed = _Feed(self._pool, here[key], self._observer, self._heard)
                    task = group.create_task(self._follow(here[key], feed))
                    self._followed[key] = _Followed(feed, task, here[key].metrics)
                if gone or new:
                    self._heard()
                for key, server in here.items():
                    self._followed[key].look(server.metrics)
                await asyncio.sleep(LOOK)

    async def _follow(self, server: Server, feed: _Feed) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._subscribe(server, feed))
            group.create_task(self._replay(server, feed))

    async def _subscribe(self, server: Server, feed: _Feed) -> None:
        with self._socket(zmq.SUB) as socket:
            socket.subscribe(self._settings.topic.encode())
            socket.connect(_url(server, int(server.endpoint.labels.get(EVENTS_PORT) or self._settings.port)))
            while True:
                for _ in range(TURN):
                    feed.live(await socket.recv_multipart())
                await asyncio.sleep(0)

    async def _replay(self, server: Server, feed: _Feed) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(feed.wanted.wait(), self._settings.check_seconds)
            if not feed.wanted.is_set() and not feed.quiet():
                continue
            feed.wanted.clear()
            if _replay_port(server, self._settings) is not None:
                feed.stream.check()
            elif feed.suspected:
                feed.begin()
            feed.suspected = False
            while (start := feed.stream.asking) is not None:
                outcome = await self._ask(server, feed, start)
                self._observer.replayed(self._pool.name, outcome)
                feed.ended(outcome)
            self._heard()

    async def _ask(self, server: Server, feed: _Feed, start: int) -> ReplayOutcome:
        port = _replay_port(server, self._settings)
        if port is None:
            return ReplayOutcome.NOWHERE
        with self._socket(zmq.DEALER) as socket:
            socket.connect(_url(server, port))
            await socket.send_multipart([b"", start.to_bytes(wire.SEQUENCE, "big")])
            try:
                while True:
                    # Each message gets the time, not the whole: ten thousand of them take a while.
                    async with asyncio.timeout(self._settings.replay_timeout_seconds):
                        frames = await socket.recv_multipart()
                    if feed.replayed(frames):
                        return ReplayOutcome.COMPLETE
            except TimeoutError:
                return ReplayOutcome.TIMED_OUT

    @contextlib.contextmanager
    def _socket(self, kind: int) -> Iterator[zmq.asyncio.Socket]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, 0)  # what is dropped here would have to be replayed
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT)
        try:
            yield socket
        finally:
            socket.close()


@dataclass(slots=True)
class _Followed:
    """One member."""

    feed: _Feed
    task: asyncio.Task[None]
    metrics: Metrics

    def look(self, metrics: Metrics) -> None:
        """Look at once whether the server told anything, if its metrics are another process's."""
        if metrics.restarted_since(self.metrics):
            self.feed.suspected = True
            self.feed.wanted.set()
        self.metrics = metrics


class _Feed:
    """From one server's frames to its view in the pool's index."""

    def __init__(self, pool: Pool, server: Server, observer: Observer, heard: Callable[[], None]) -> None:
        self._pool = pool
        self._slot = server.slot
        self._observer = observer
        self._heard = heard
        self._log = structlog.get_logger().bind(pool=pool.name, endpoint=server.address)
        self._told: Counter[Trouble] = Counter()
        self._unread = 0
        self._heard_any = True
        self.stream = MessageStream(self._apply, self._reset)
        self.wanted = asyncio.Event()
        self.wanted.set()
        self.suspected = False
        """The server may have lost its cache without a word."""
        self.begin()

    def begin(self) -> None:
        """Know nothing of what the server holds."""
        self._reset(False)

    def live(self, frames: wire.Frames) -> None:
        """Take a message as it was published."""
        self._heard_any = True
        try:
            number, payload = wire.split(frames)
            self.stream.live(wire.sequence_of(number), payload)
        except WireError as error:
            self._bad(error)
        self._report()
        if self.stream.asking is not None:
            self.wanted.set()

    def quiet(self) -> bool:
        """Say whether nothing came since the last time this was asked."""
        heard, self._heard_any = self._heard_any, False
        return not heard

    def replayed(self, frames: wire.Frames) -> bool:
        """Take a message of a replay; return whether that was its end."""
        try:
            number, payload = wire.split(frames)
            if number == wire.END:
                return True
            self.stream.replayed(wire.sequence_of(number), payload)
        except WireError as error:
            self._bad(error)
        return False

    def ended(self, outcome: ReplayOutcome) -> None:
        """Go on after a replay."""
        self.stream.ended(complete=outcome is ReplayOutcome.COMPLETE)
        self._report()

    def _apply(self, payload: bytes) -> None:
        try:
            batch = wire.decode(payload)
        except WireError as error:
            # What it said is not known: the server may hold less than is believed.
            self._bad(error)
            self._reset(False)
            return
        for event in batch.events:
            self._pool.exact.apply(self._slot, event)
        for why, count in ((Passed.IGNORED, batch.ignored), (Passed.UNKNOWN, batch.unknown)):
            if count:
                self._observer.passed_over(self._pool.name, why, count)

    def _reset(self, whole: bool) -> None:
        self._pool.exact.begin(self._slot, whole=whole)
        self._heard()

    def _bad(self, error: WireError) -> None:
        if not self._unread:
            self._log.warning("the first KV events that cannot be read", error=str(error))
        self._unread += 1

    def _report(self) -> None:
        """Tell what is new of the stream's troubles."""
        counts = self.stream.counts
        now = Counter(
            {
                Trouble.GAP: counts.gaps,
                Trouble.LOST: counts.lost,
                Trouble.RESTART: counts.restarts,
                Trouble.FORMAT: self._unread,
            }
        )
        for kind, count in (now - self._told).items():
            self._observer.trouble(self._pool.name, kind, count)
            self._log.info(_SENTENCES[kind])
        self._told = now


def _url(server: Server, port: int) -> str:
    return f"tcp://{join(split(server.address)[0], port)}"


def _replay_port(server: Server, settings: KvEvents) -> int | None:
    label = server.endpoint.labels.get(REPLAY_PORT)
    return int(label) if label else settings.replay_port


async def listening(pool: Pool, settings: KvEvents, *, observer: Observer, heard: Callable[[], None]) -> None:
    """Listen for ever, with sockets that end with it."""
    context = zmq.asyncio.Context()
    pool.exact.limit = settings.max_blocks
    try:
        await Listener(pool, settings, context=context, observer=observer, heard=heard).run()
    finally:
        for server in pool.snapshot.servers:
            pool.exact.forget(server.slot)
        context.destroy(linger=0)
