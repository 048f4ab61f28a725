# ruff: noqa: S101 - a test kit: an illegal reply is a failed assertion
"""Envoy's end of one side of an exchange, for tests: what is legal, and what Envoy then sends on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from services.extproc.decisions import Forward, Reject
from services.extproc.events import Value
from services.extproc.messages import Chunk, Continue, Message, Mode, MoreTime, Part, Side


@dataclass(slots=True)
class Result:
    """What one side of the exchange became: the service's changes, and what Envoy sends on."""

    set_headers: dict[str, str] = field(default_factory=dict)
    remove_headers: tuple[str, ...] = ()
    body: bytes = b""
    metadata: dict[str, dict[str, Value]] = field(default_factory=dict)
    reroute: bool = False
    rejected: Reject | None = None
    ended: bool = False
    """The body's end went on: by end of stream, or by trailers."""
    head_sent: bool = False
    more_time: float | None = None
    """Seconds that the service asked for."""
    complete: bool = False
    """Everything that Envoy sent is answered and has gone on."""


class Leg:
    """Envoy's end of one side: remembers what was sent, applies the replies, refuses illegal ones."""

    def __init__(self, side: Side, mode: Mode) -> None:
        self.result = Result()
        self._side = side
        self._mode = mode
        self._pending: deque[Message] = deque()
        self._trailed = False
        self._end_sent = False

    def sent(self, message: Message) -> None:
        """Note a message; in FULL_DUPLEX_STREAMED mode body messages are owed no reply of their own."""
        self._trailed = self._trailed or message.part is Part.TRAILERS
        self._end_sent = self._end_sent or message.end or self._trailed
        if message.part is not Part.BODY or self._mode is not Mode.FULL_DUPLEX_STREAMED:
            self._pending.append(message)

    def unseen(self, body: bytes) -> None:
        """Note a body that Envoy does not show the service (mode NONE)."""
        self.result.body, self._end_sent, self.result.ended = body, True, True

    def granted(self, more: MoreTime) -> None:
        """Apply a request for more time: Envoy grants one for each message."""
        assert self.result.more_time is None, "more time was asked for twice"
        self.result.more_time = more.seconds

    def got(self, reply: Continue | Chunk) -> None:
        """Apply one reply."""
        if isinstance(reply, Chunk):
            self._chunk(reply)
        else:
            self._continue(reply)
        self.result.complete = not self._pending and self._end_sent and self.result.ended

    def rejected(self, reject: Reject) -> None:
        """Apply the service's own answer."""
        gone = self._side is Side.RESPONSE and self.result.head_sent and self._mode is not Mode.BUFFERED
        assert not gone, "Reject after the head of the answer: Envoy would cut the connection"
        self.result.rejected = reject

    def _chunk(self, chunk: Chunk) -> None:
        assert self._mode is Mode.FULL_DUPLEX_STREAMED, f"streamed reply in mode {self._mode.name}: spurious"
        assert self.result.head_sent, "body reply before the header reply"
        assert not self.result.ended, "body reply after the end"
        assert not (chunk.end and self._trailed), (
            "end_of_stream although trailers came: the request would hang"
        )
        self.result.body += chunk.data
        self.result.ended = chunk.end
        self._merge(Forward(metadata=chunk.metadata))

    def _continue(self, reply: Continue) -> None:
        assert self._pending, f"unexpected reply to {reply.part.value}"
        message = self._pending.popleft()
        assert reply.part is message.part, f"reply to {reply.part.value}, but {message.part.value} is due"
        change = reply.forward
        late = reply.part is Part.TRAILERS or (reply.part is Part.BODY and self._mode is not Mode.BUFFERED)
        assert not (late and (change.set_headers or change.remove_headers)), (
            "Envoy ignores these header changes"
        )
        self._merge(change)
        if reply.part is Part.HEADERS:
            assert change.body is None, "a header reply carries no body"
            self.result.head_sent = True
        else:
            self.result.body += message.data if change.body is None else change.body
        self.result.ended = self.result.ended or message.end or reply.part is Part.TRAILERS

    def _merge(self, change: Forward) -> None:
        self.result.set_headers.update(change.set_headers)
        self.result.remove_headers += change.remove_headers
        self.result.reroute = self.result.reroute or change.reroute
        for namespace, values in change.metadata.items():
            self.result.metadata.setdefault(namespace, {}).update(values)
