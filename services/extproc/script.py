# ruff: noqa: S101 - a test kit: what must not happen is a failed assertion
"""A test kit: talk to a service through the real session, as Envoy would, and see what Envoy would then send on.

    script = Script(service, request_body="BUFFERED", response_body="FULL_DUPLEX_STREAMED")
    sent = await script.request({"x-tenant": "a"}, b'{"model":"m"}')
    assert sent.set_headers == {"x-model": "m"}      # what the service changed
    assert sent.body == b'{"model":"m"}'             # what goes upstream, changed or not
    answer = await script.response(body=b"hello", cut=[2])     # two chunks and, as real Envoy does, an empty last one
    assert answer.body == b"hello" and answer.complete
    record = script.close()                          # Exchange.end has been called; record.outcome says how

- `request` and `response` take the whole message; `body=b""` has none, `cut` lists the positions where it is cut,
  `empty_last=False` puts the end of stream on the last piece, `trailers` end it instead. A Reject stops the sending.
- `response_head`, `response_chunk`, `response_trailers` send one piece each; each returns the `Result` so far.
- `Result.rejected` is the service's own answer to the client, if there was one.
- A bug in the service is raised here, not contained, unless `contain=True`; `script.failures` keeps all of them.
- A reply that Envoy would not accept, or a missing one, is an `AssertionError` (`Result.complete` is for the end).
- `await at_every_cut(run, body)` calls `run(script positions)` for a cut at every byte and compares the results.

It needs no event loop of its own, no gRPC and no network.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from services.extproc.budget import Budget
from services.extproc.conversation import Conversation
from services.extproc.decisions import Reject
from services.extproc.errors import ProtocolError
from services.extproc.events import Headers, Metadata, Value
from services.extproc.exchange import Service
from services.extproc.leg import Leg, Result
from services.extproc.messages import Message, Mode, Modes, MoreTime, Part, Reply, Side
from services.extproc.observe import StreamRecord

HeaderItems = Mapping[str, str] | Iterable[tuple[str, str]]
T = TypeVar("T")
HELD_BYTES = 1 << 40
"""No bound: a script is one stream."""


class Recorder:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.records: list[StreamRecord] = []
        self.failures: list[BaseException] = []

    def started(self) -> None:
        """Nothing to keep."""

    def failed(self, error: BaseException) -> None:
        """Keep the failure."""
        self.failures.append(error)

    def ended(self, record: StreamRecord) -> None:
        """Keep the record."""
        self.records.append(record)


class Script:
    """One exchange. Body modes are Envoy's names; `context` is the gRPC initial metadata."""

    def __init__(
        self,
        service: Service,
        *,
        request_body: str = "BUFFERED",
        response_body: str = "NONE",
        context: Mapping[str, str] | None = None,
        early: bool = False,
        body_limit: int = 16 * 1024 * 1024,
        contain: bool = False,
    ) -> None:
        self._modes = Modes(Mode[request_body], Mode[response_body], early)
        self._recorder = Recorder()
        self._contain = contain
        self._first = True
        self._conversation = Conversation(
            service,
            context or {},
            body_limit=body_limit,
            budget=Budget(HELD_BYTES),
            observer=self._recorder,
        )
        self._legs = {
            Side.REQUEST: Leg(Side.REQUEST, self._modes.request),
            Side.RESPONSE: Leg(Side.RESPONSE, self._modes.response),
        }

    @property
    def failures(self) -> list[BaseException]:
        """The bugs and breaches of the protocol so far."""
        return self._recorder.failures

    async def request(
        self,
        headers: HeaderItems = (),
        body: bytes = b"",
        *,
        cut: Sequence[int] = (),
        empty_last: bool = True,
        trailers: HeaderItems | None = None,
        metadata: Metadata | None = None,
        attributes: Mapping[str, Value] | None = None,
    ) -> Result:
        """Send a whole request: `POST /v1/chat/completions` where `headers` do not say otherwise."""
        defaults = {":method": "POST", ":path": "/v1/chat/completions", ":authority": "gateway"}
        head = Message(
            Side.REQUEST,
            headers=_headers(defaults, headers, body),
            end=not body and trailers is None,
            metadata=metadata or {},
            attributes=dict(attributes or {}),
        )
        return await self._whole(
            head, body, _pieces(body, cut, empty_last=empty_last and trailers is None), trailers
        )

    async def response(
        self,
        status: int = 200,
        headers: HeaderItems = (),
        body: bytes = b"",
        *,
        cut: Sequence[int] = (),
        empty_last: bool = True,
        trailers: HeaderItems | None = None,
        metadata: Metadata | None = None,
        attributes: Mapping[str, Value] | None = None,
    ) -> Result:
        """Send a whole answer, `application/json` where `headers` do not say otherwise."""
        head = Message(
            Side.RESPONSE,
            headers=_headers({":status": str(status), "content-type": "application/json"}, headers, body),
            end=not body and trailers is None,
            metadata=metadata or {},
            attributes=dict(attributes or {}),
        )
        return await self._whole(
            head, body, _pieces(body, cut, empty_last=empty_last and trailers is None), trailers
        )

    async def response_head(
        self,
        status: int = 200,
        headers: HeaderItems = (),
        *,
        end: bool = False,
        metadata: Metadata | None = None,
    ) -> Result:
        """Send the head of an answer alone."""
        items = _headers({":status": str(status), "content-type": "application/json"}, headers, b"")
        return await self.send(Message(Side.RESPONSE, headers=items, end=end, metadata=metadata or {}))

    async def response_chunk(self, data: bytes, *, end: bool = False) -> Result:
        """Send one chunk of the answer's body."""
        return await self.send(Message(Side.RESPONSE, Part.BODY, data=data, end=end))

    async def response_trailers(self, headers: HeaderItems = ()) -> Result:
        """End the answer by trailers."""
        return await self.send(Message(Side.RESPONSE, Part.TRAILERS, headers=_headers({}, headers, b"")))

    async def send(self, message: Message) -> Result:
        """Send one message as it stands and apply the replies."""
        if self._first:
            message, self._first = replace(message, modes=self._modes), False
        side = message.side or Side.REQUEST
        leg = self._legs[side]
        if message.side is not None:
            leg.sent(message)
        for reply in await self._received(message):
            self._apply(reply, leg)
        if self.failures and not self._contain:
            raise self.failures[0]
        return leg.result

    def close(self) -> StreamRecord:
        """End the stream, as Envoy does when nothing more is expected or the client has left."""
        self._conversation.close()
        return self._recorder.records[0]

    async def _received(self, message: Message) -> tuple[Reply, ...]:
        try:
            replies = await self._conversation.receive(message)
            return replies + (await self._conversation.resume() if self._conversation.waiting else ())
        except ProtocolError as error:
            self._conversation.broken(error)
            raise

    def _apply(self, reply: Reply, leg: Leg) -> None:
        if isinstance(reply, Reject):
            leg.rejected(reply)
        elif isinstance(reply, MoreTime):
            leg.granted(reply)
        else:
            self._legs[reply.side].got(reply)

    async def _whole(
        self, head: Message, body: bytes, pieces: Sequence[bytes], trailers: HeaderItems | None
    ) -> Result:
        side, mode = head.side or Side.REQUEST, self._modes.request
        if side is Side.RESPONSE:
            mode = self._modes.response
        leg = self._legs[side]
        result = await self.send(head)
        if mode is Mode.NONE and not head.end:
            leg.unseen(body)
            result.complete = result.head_sent
            return result
        if mode is Mode.BUFFERED:
            pieces = [body] if body else []
        for message in [] if head.end else _body(side, pieces, trailers):
            if result.rejected is None:
                assert mode is not Mode.BUFFERED or result.head_sent, "BUFFERED: the header reply is withheld"
                result = await self.send(message)
        return result


def cuts(body: bytes) -> Iterator[list[int]]:
    """Yield the positions of every way to test: whole, cut once at every byte, and cut at all bytes at once."""
    yield []
    yield from ([position] for position in range(1, len(body)))
    yield list(range(1, len(body)))


async def at_every_cut(run: Callable[[list[int]], Awaitable[T]], body: bytes) -> T:
    """Call `run(cut)` for every cut of `body`; assert that all results are equal, and return them as one.

    `run` makes a new `Script` each time and passes `cut` on.
    """
    whole = await run([])
    for cut in cuts(body):
        result = await run(cut)
        assert result == whole, f"cut at {cut}: {result!r} instead of {whole!r}"
    return whole


def _headers(defaults: Mapping[str, str], given: HeaderItems, body: bytes) -> Headers:
    items = list(given.items() if isinstance(given, Mapping) else given)
    names = {name for name, _ in items}
    length = {"content-length": str(len(body))} if body else {}
    first = [item for item in {**defaults, **length}.items() if item[0] not in names]
    return Headers([*first, *items])


def _pieces(body: bytes, cut: Sequence[int], *, empty_last: bool) -> list[bytes]:
    if not body:
        return []
    edges = [0, *cut, len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(edges)]
    return [*pieces, b""] if empty_last else pieces


def _body(side: Side, pieces: Sequence[bytes], trailers: HeaderItems | None) -> Iterator[Message]:
    for number, piece in enumerate(pieces, start=1):
        end = trailers is None and number == len(pieces)
        yield Message(side, Part.BODY, data=piece, end=end)
    if trailers is not None:
        yield Message(side, Part.TRAILERS, headers=_headers({}, trailers, b""))
