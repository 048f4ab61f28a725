"""Drives the engine with the real clock, and brings its progress to the answers that wait for it.

The timer is set only while the engine has work, for the end of the step that somebody waits for: nothing polls.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from tools.model_server.engine import Engine, Progress, Request

QUANTUM = 0.001
"""Wake-ups are at least this far apart, in seconds. A fast engine ends several steps in one, and uvloop's timers know
no finer time."""


class Ticket:
    """The sequences of one answer, in order. Leaving its block cancels what still runs."""

    def __init__(self, loop: EngineLoop, requests: Sequence[Request], *, stream: bool, held: bool) -> None:
        self.started = loop.clock()
        self.stream = stream
        self.held = held
        """The answer is paced by its request: its sequences count as running until it is sent."""
        self.open = len(requests)
        self._loop = loop
        self._requests = requests
        self._news: list[tuple[int, Progress]] = []
        self._news_came: asyncio.Future[None] | None = None

    async def news(self) -> list[tuple[int, Progress]]:
        """Wait for progress; return it with the index of its sequence. Empty when all have finished."""
        while not self._news and self.open:
            self._news_came = asyncio.get_running_loop().create_future()
            await self._news_came
        news, self._news = self._news, []
        return news

    async def done(self) -> list[tuple[int, Progress]]:
        """Wait until all sequences have finished; return all their progress."""
        news: list[tuple[int, Progress]] = []
        while more := await self.news():
            news += more
        return news

    def put(self, index: int, progress: Progress) -> None:
        """Hand over progress."""
        self._news.append((index, progress))
        self.open -= progress.finished
        # Whoever does not stream sleeps until the last sequence has finished.
        if self._news_came and not self._news_came.done() and (self.stream or not self.open):
            self._news_came.set_result(None)

    def __enter__(self) -> Self:
        self._loop.start(self, self._requests)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.leave(self, self._requests)


class EngineLoop:
    """One engine on one event loop."""

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[Ticket, Progress], None] | None = None,
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.aborted = 0
        """Sequences cancelled since the start."""
        self._observe = observe
        self._owners: dict[str, tuple[Ticket, int]] = {}
        self._held = 0
        self._streams = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    @property
    def running(self) -> int:
        """Sequences in the batch, and those finished but sent at a slower pace."""
        return self.engine.running + self._held

    def ticket(self, requests: Sequence[Request], *, stream: bool, held: bool = False) -> Ticket:
        """Return the block in which `requests` run; entering it raises `DoesNotFit` and submits none."""
        return Ticket(self, requests, stream=stream, held=held)

    def start(self, ticket: Ticket, requests: Sequence[Request]) -> None:
        """Submit the sequences of `ticket`."""
        self._pump()
        self._streams += ticket.stream
        try:
            for index, request in enumerate(requests):
                self.engine.submit(request, self.clock())
                self._owners[request.id] = (ticket, index)
        except ValueError:
            self.leave(ticket, requests)
            raise
        self._arm()

    def leave(self, ticket: Ticket, requests: Sequence[Request]) -> None:
        """Cancel what still runs of `ticket`."""
        self._streams -= ticket.stream
        if ticket.open:
            self._cancel(requests)
        if ticket.held:
            self._held -= len(requests) - ticket.open

    def _cancel(self, requests: Sequence[Request]) -> None:
        self._pump()
        for request in requests:
            if self._owners.pop(request.id, None) is not None:
                self.engine.cancel(request.id, self.clock())
                self.aborted += 1
        self._arm()

    def _pump(self) -> None:
        for progress in self.engine.advance(self.clock()):
            ticket, index = self._owners[progress.id]
            if progress.finished:
                del self._owners[progress.id]
                self._held += ticket.held
            ticket.put(index, progress)
            if self._observe is not None:
                self._observe(ticket, progress)

    def _arm(self) -> None:
        due = self.engine.next_token if self._streams else self.engine.next_change
        if due >= self._due:
            return  # the timer that is set comes earlier and will look again
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        delay = max(QUANTUM, due - self.clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer, self._due = None, math.inf
        self._pump()
        self._arm()
