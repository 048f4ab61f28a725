"""What a session says after each message: replies to send, and at most one question to the exchange."""

from __future__ import annotations

from dataclasses import dataclass

from services.extproc.decisions import Emit, Forward, Hold, Reject, Stream, Wait
from services.extproc.errors import ExtProcError
from services.extproc.events import Request, ResponseChunk, ResponseHead
from services.extproc.messages import Reply


@dataclass(frozen=True, slots=True)
class HeldBody:
    """The whole body of a held answer: ask `Exchange.response_body`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Overflow:
    """A held answer grew over its limit: ask `Exchange.response_overflow`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """The decision on the request takes its time: send the replies so far, then ask `Exchange.waited`."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """The request is on its way and its answer has not begun: ask `Exchange.revoked`."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The session itself refuses the request: ask `Service.refuse` for the words."""

    error: ExtProcError


Question = Request | ResponseHead | ResponseChunk | HeldBody | Overflow | Refusal | Waiting | Revocation
Decision = Forward | Reject | Wait | Stream | Hold | Emit


@dataclass(frozen=True, slots=True)
class Turn:
    """Send `replies` in order, then answer `ask`."""

    replies: tuple[Reply, ...] = ()
    ask: Question | None = None


NOTHING = Turn()
