"""A service whose every answer is an argument, and messages that are short to write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.extproc.decisions import (
    BodyDecision,
    Emit,
    Forward,
    HeadDecision,
    Reject,
    RequestDecision,
    Wait,
)
from services.extproc.errors import ExtProcError, Overloaded
from services.extproc.events import End, Headers, Request, ResponseChunk, ResponseHead
from services.extproc.exchange import Exchange, FailMode
from services.extproc.messages import Message, Mode, Modes, Part, Side

POST = Headers([(":method", "POST"), (":path", "/v1/chat/completions")])


def request_headers(*, end: bool = False, length: int | None = None, modes: Modes | None = None) -> Message:
    items = [*POST] if length is None else [*POST, ("content-length", str(length))]
    return Message(Side.REQUEST, headers=Headers(items), end=end, modes=modes)


def request_body(data: bytes, *, end: bool = False) -> Message:
    return Message(Side.REQUEST, Part.BODY, data=data, end=end)


def response_headers(*, status: int = 200, end: bool = False, modes: Modes | None = None) -> Message:
    return Message(Side.RESPONSE, headers=Headers([(":status", str(status))]), end=end, modes=modes)


def response_body(data: bytes, *, end: bool = False) -> Message:
    return Message(Side.RESPONSE, Part.BODY, data=data, end=end)


def trailers(side: Side) -> Message:
    return Message(side, Part.TRAILERS)


REQUEST_MODES = (Mode.BUFFERED, Mode.STREAMED, Mode.FULL_DUPLEX_STREAMED)


@dataclass
class Fake:
    """A service and its exchanges. What an answer is given as is returned, called, or raised."""

    fail_mode: FailMode = FailMode.CLOSED
    request: RequestDecision | Exception | Callable[[Request], RequestDecision] = field(
        default_factory=Forward
    )
    head: HeadDecision | Exception = field(default_factory=Forward)
    chunk: Exception | Callable[[ResponseChunk], Emit] = lambda chunk: Emit(chunk.data)
    body: BodyDecision | Exception | Callable[[bytes], BodyDecision] = field(default_factory=Forward)
    overflow: Forward | Reject | None = None
    on_headers: bool | Exception = False
    name: str = "fake"
    requests: list[Request] = field(default_factory=list)
    heads: list[ResponseHead] = field(default_factory=list)
    chunks: list[ResponseChunk] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    contexts: list[Mapping[str, str]] = field(default_factory=list)

    def open(self, context: Mapping[str, str]) -> Exchange:
        self.contexts.append(context)
        return FakeExchange(self)

    def refuse(self, error: ExtProcError, request: Request | None) -> Reject:
        return Reject(error.status, error.message.encode(), details=error.reason)


class FakeExchange(Exchange):
    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def decides_on_headers(self, request):
        return _given(self._fake.on_headers)

    async def request(self, request):
        self._fake.requests.append(request)
        return _given(self._fake.request, request)

    async def response_head(self, head):
        self._fake.heads.append(head)
        return _given(self._fake.head)

    async def response_chunk(self, chunk):
        self._fake.chunks.append(chunk)
        return _given(self._fake.chunk, chunk)

    async def response_body(self, body):
        self._fake.bodies.append(body)
        return _given(self._fake.body, body)

    async def response_overflow(self, held):
        self._fake.bodies.append(held)
        return self._fake.overflow or await super().response_overflow(held)

    def end(self, end):
        self._fake.ends.append(end)


def _given(answer, *arguments):
    if isinstance(answer, Exception):
        raise answer
    return answer(*arguments) if callable(answer) else answer


class Patient(Fake):
    """Asks for `seconds` and decides once `go` is set: `answer`, or a refusal."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.go, self.ended = asyncio.Event(), asyncio.Event()
        self.left = False
        self.answer: Forward | ExtProcError = Forward(set_headers=(("x-a", "b"),))

    def open(self, context: Mapping[str, str]) -> Exchange:
        return PatientExchange(self)


class Lender(Fake):
    """Lets requests go, and takes one back once `taken` is set; `last`: wants nothing of answers; `waits`: before it goes."""

    def __init__(self, *, last: bool = False, waits: bool = False) -> None:
        super().__init__()
        self.last = last
        self.waits = waits
        self.taken, self.ended = asyncio.Event(), asyncio.Event()
        self.cancelled = 0

    def open(self, context: Mapping[str, str]) -> Exchange:
        return LentExchange(self)


class LentExchange(Exchange):
    def __init__(self, lender: Lender) -> None:
        self._lender = lender

    async def request(self, request: Request) -> Forward | Wait:
        return Wait(5.0) if self._lender.waits else Forward(last=self._lender.last)

    async def waited(self) -> Forward:
        return Forward(last=self._lender.last)

    @property
    def revocable(self) -> bool:
        return not self._lender.last

    async def revoked(self) -> Reject:
        try:
            await self._lender.taken.wait()
        except asyncio.CancelledError:
            self._lender.cancelled += 1
            raise
        raise Overloaded("others go first", reason="evicted")

    async def response_head(self, head: ResponseHead) -> Forward:
        if self._lender.taken.is_set():
            raise Overloaded("others go first", reason="evicted")
        self._lender.heads.append(head)
        return Forward()

    def end(self, end: End) -> None:
        self._lender.ends.append(end)
        self._lender.ended.set()


class PatientExchange(Exchange):
    def __init__(self, patient: Patient) -> None:
        self._patient = patient

    async def request(self, request: Request) -> Wait:
        return Wait(self._patient.seconds)

    async def waited(self) -> Forward:
        try:
            await self._patient.go.wait()
        except asyncio.CancelledError:
            self._patient.left = True
            raise
        if isinstance(self._patient.answer, ExtProcError):
            raise self._patient.answer
        return self._patient.answer

    def end(self, end: End) -> None:
        self._patient.ends.append(end)
        self._patient.ended.set()
