"""A candidate policy beside the one in force: it sees the same traffic, changes nothing, and reports what it would do.

It judges later, off the path of the traffic: nothing that is live waits for it, its providers least of all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import structlog

from services.extproc.background import background
from services.extproc.events import Request
from services.safety.answer import Ask, StreamedAnswer
from services.safety.audit import Observer, Record
from services.safety.judge import Tally
from services.safety.policy import Policy, Side
from services.safety.prompt import judge_answer, judge_prompt
from services.safety.verdict import Direction

Asker = Callable[[Direction, Side, Tally], Ask]

WAITING = 1000  # judgements that wait at most
WAITING_BYTES = 64 * 1024 * 1024  # of what they are about
_WORKERS = 16  # judgements at once: most of a judgement is waiting for a provider


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], Awaitable[None]]
    size: int


class Shadows:
    """Judgements that wait to be made, up to a bound; `dropped` hears of each that does not fit."""

    def __init__(self, dropped: Callable[[], None] = lambda: None, *, waiting: int = WAITING) -> None:
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(waiting)
        self._bytes = 0
        self._dropped = dropped

    def submit(self, work: Callable[[], Awaitable[None]], size: int) -> bool:
        """Let `work` wait for its turn; it is about `size` bytes. False if it was dropped."""
        if self._jobs.full() or self._bytes + size > WAITING_BYTES:
            self._dropped()
            return False
        self._bytes += size
        self._jobs.put_nowait(_Job(work, size))
        return True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the block runs. What still waits at its end is not judged."""
        async with AsyncExitStack() as stack:
            for _ in range(_WORKERS):
                await stack.enter_async_context(background(self._work()))
            yield

    async def drain(self) -> None:
        """Make the judgements that wait now."""
        while not self._jobs.empty():
            await self._next()

    async def _work(self) -> None:
        while True:
            await self._next()

    async def _next(self) -> None:
        job = await self._jobs.get()
        try:
            await job.work()
        except Exception:  # noqa: BLE001 - a candidate may hold anybody's check: what is live goes on
            structlog.get_logger("safety.shadow").exception("shadow policy failed")
        finally:
            self._bytes -= job.size


class Shadow:
    """One exchange as the candidate judges it."""

    def __init__(
        self, policy: Policy, tally: Callable[[], Tally], shadows: Shadows, observer: Observer
    ) -> None:
        self.policy = policy
        self._prompt = tally()
        self._answer = tally()
        self._shadows = shadows
        self._observer = observer
        self._prompt_judged: asyncio.Event | None = None
        self._complete = True  # nothing of the exchange was dropped
        self._pieces: list[bytes] = []
        self._size = 0

    def prompt(self, request: Request, asker: Asker, record: Record) -> None:
        """Judge the prompt, of which `record` is the verdict in force."""
        side = self.policy.prompt
        judged = self._prompt_judged = asyncio.Event()

        async def work() -> None:
            try:
                if not side.idle or self.policy.response.prompt_checks:
                    ask = asker(Direction.PROMPT, side, self._prompt)
                    await judge_prompt(request, side, ask, self._prompt)
                self._report(self._prompt, record)
            finally:
                judged.set()

        self._complete = self._shadows.submit(work, len(request.body or b""))

    def answer(self, body: bytes | None, encoding: str, asker: Asker, record: Record) -> None:
        """Judge a whole answer; None: the one in force could not be read, nor can it be here."""

        async def work() -> None:
            side = await self._side()
            if body is not None and not side.idle:
                ask = asker(Direction.RESPONSE, side, self._answer)
                await judge_answer(body, side, ask, self._answer, encoding)
            self._report(self._answer, record)

        if self._complete:
            self._shadows.submit(work, len(body or b""))

    def feed(self, data: bytes) -> None:
        """Keep a piece of a streamed answer."""
        self._size += len(data)
        if self._size <= WAITING_BYTES and data:
            self._pieces.append(data)

    def streamed(self, asker: Asker, record: Record) -> None:
        """Judge the streamed answer, which is over."""
        pieces, self._pieces = self._pieces, []

        async def work() -> None:
            side = await self._side()
            held = None
            if not side.idle:
                stream = StreamedAnswer(side, self._answer, asker(Direction.RESPONSE, side, self._answer))
                for piece in pieces:
                    await stream.feed(piece, end=False)
                    await asyncio.sleep(0)  # what is live goes first
                await stream.feed(b"", end=True)
                held = stream.most_held
            self._report(self._answer, record, held)

        if self._complete:
            self._shadows.submit(work, self._size)

    async def _side(self) -> Side:
        if self._prompt_judged is not None:
            await self._prompt_judged.wait()
        return self.policy.response.bound(self._prompt.prompt)

    def _report(self, tally: Tally, record: Record, held: int | None = None) -> None:
        self._observer.verdict(
            replace(
                record,
                verdict=tally.verdict(),
                policy=self.policy.name,
                held_bytes=held,
                reported=tuple(tally.reported),
                enforced=False,
                against=record.verdict.action,
            )
        )
