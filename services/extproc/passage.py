"""How a message gets past the filter: held until somebody has decided, and then let through, changed or not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.extproc.decisions import Forward
from services.extproc.errors import ProtocolError
from services.extproc.messages import Chunk, Continue, Message, Mode, Part, Reply, Side
from services.extproc.phases import DONE, Phase

UNCHANGED = Forward()
CLEARED = Forward(body=b"")


class Passage:
    """The way of one side's body after the decision. Each body message gets the replies that its mode demands.

    `change` goes with the first reply: in BUFFERED mode headers, metadata and body, in the others what is legal there.
    """

    __slots__ = ("_mode", "_next", "_rest", "_side")

    def __init__(self, side: Side, mode: Mode, change: Forward = UNCHANGED) -> None:
        self._side = side
        self._mode = mode
        self._next = change
        self._rest = UNCHANGED if change.body is None else CLEARED

    def body(self, data: bytes, *, end: bool) -> tuple[Reply, ...]:
        """Return the replies to one body message."""
        if self._mode is Mode.NONE:
            raise ProtocolError(f"{self._side.value} body in mode NONE")
        change, self._next = self._next, self._rest
        if self._mode is not Mode.FULL_DUPLEX_STREAMED:
            return (Continue(self._side, Part.BODY, change),)
        out = data if change.body is None else change.body
        return (Chunk(self._side, out, end, change.metadata),) if out or end or change.metadata else ()

    def trailers(self) -> tuple[Reply, ...]:
        """Return the replies to the trailers, which end a body without `end_of_stream`."""
        change, self._next = self._next, self._rest
        last = Continue(self._side, Part.TRAILERS, Forward(metadata=change.metadata))
        if not change.body:
            return (last,)
        if self._mode is not Mode.FULL_DUPLEX_STREAMED:
            raise ProtocolError(f"no {self._side.value} body message came to carry the new body")
        return (Chunk(self._side, change.body), last)


def has_checked_length(mode: Mode, head: Message) -> bool:
    """Say whether Envoy compares a new body with content-length: when BUFFERED. Otherwise it removes that header."""
    return mode is Mode.BUFFERED and "content-length" in head.headers


def with_length(change: Forward) -> Forward:
    """Add the content-length of the new body, if there is one: it must stand in the same reply."""
    if change.body is None:
        return change
    return replace(change, set_headers=(*change.set_headers, ("content-length", str(len(change.body)))))


@dataclass(frozen=True, slots=True)
class Release:
    """What a held message becomes."""

    replies: tuple[Reply, ...]
    passage: Passage
    """The way for what is still to come."""
    dropped: bool
    """Header changes were asked for, but the head had already gone."""


class Held:
    """Head and body of one side while a decision is due."""

    __slots__ = ("_head_owed", "_messages", "_mode", "_sets_length", "_side", "size")

    def __init__(self, side: Side, mode: Mode, head: Message) -> None:
        self._side = side
        self._mode = mode
        self._head_owed = True
        self._sets_length = has_checked_length(mode, head)
        self._messages: list[bytes] = []
        self.size = 0

    @property
    def head_owed(self) -> bool:
        """The head waits in Envoy for our reply."""
        return self._head_owed

    def let_head_go(self) -> Reply:
        """Return the plain reply to the headers: Envoy sends the body only after it."""
        self._head_owed = False
        return Continue(self._side, Part.HEADERS)

    def add(self, data: bytes) -> None:
        """Keep one body message."""
        self._messages.append(data)
        self.size += len(data)

    @property
    def data(self) -> bytes:
        """All of the body that came."""
        return b"".join(self._messages)

    def release(self, forward: Forward, phase: Phase) -> Release:
        """Return the replies that send on what is held, changed as `forward` says; `phase` is where the side is."""
        self._refuse_impossible(forward, phase)
        replies: list[Reply] = []
        left = forward
        if self._head_owed:
            replies.append(Continue(self._side, Part.HEADERS, replace(forward, body=None)))
            left = Forward(body=forward.body)
        late = not self._head_owed and not (self._mode is Mode.BUFFERED and self._messages)
        if late:
            left = Forward(body=forward.body, metadata=forward.metadata)
        passage = Passage(self._side, self._mode, with_length(left) if self._sets_length else left)
        replies += self._replay(passage, phase)
        if phase is Phase.TRAILED:
            replies += passage.trailers()
        changed = bool(forward.set_headers or forward.remove_headers or forward.reroute)
        return Release(tuple(replies), passage, dropped=late and changed)

    def _replay(self, passage: Passage, phase: Phase) -> list[Reply]:
        ended = phase is Phase.ENDED
        if not self._messages:
            return []
        if self._mode is Mode.FULL_DUPLEX_STREAMED:
            return [*passage.body(self.data, end=ended)]
        return [reply for data in self._messages for reply in passage.body(data, end=ended)]

    def _refuse_impossible(self, forward: Forward, phase: Phase) -> None:
        unseen = self._mode is Mode.NONE or (phase in DONE and not self._messages and self._head_owed)
        if unseen and forward.body:
            raise ProtocolError(f"there is no {self._side.value} body that could be replaced")
