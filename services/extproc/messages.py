"""What goes over one ext_proc stream, as plain values: the session's input and output. `wire` knows their bytes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from services.extproc.decisions import Forward, Reject
from services.extproc.events import Headers, Metadata, Value


class Side(enum.Enum):
    """The two halves of an HTTP exchange. Each is a conversation of its own."""

    REQUEST = "request"
    RESPONSE = "response"


class Part(enum.Enum):
    """The pieces of an HTTP message, in the order in which they come."""

    HEADERS = "headers"
    BODY = "body"
    TRAILERS = "trailers"


class Mode(enum.IntEnum):
    """How Envoy sends a body, with Envoy's own numbers (`ProcessingMode.BodySendMode`)."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX_STREAMED = 4
    GRPC = 5


@dataclass(frozen=True, slots=True)
class Modes:
    """The `protocol_config` of a stream's first message."""

    request: Mode = Mode.NONE
    response: Mode = Mode.NONE
    early: bool = False
    """`send_body_without_waiting_for_header_response`: in STREAMED mode the header reply may be held back."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message from Envoy."""

    side: Side | None
    """None: a kind of message that this version does not know."""
    part: Part = Part.HEADERS
    headers: Headers = field(default_factory=Headers)
    data: bytes = b""
    end: bool = False
    """`end_of_stream`: nothing follows on this side."""
    metadata: Metadata = field(default_factory=dict)
    """Only filled where it is read: with headers, the end of a request's body, and request trailers."""
    attributes: dict[str, Value] = field(default_factory=dict)
    modes: Modes | None = None
    """Set in the first message of a stream."""
    observing: bool = False
    """`observability_mode`: Envoy wants no answers."""


@dataclass(frozen=True, slots=True)
class Continue:
    """The plain reply to one message: go on, changed as said. Its body replaces that of a whole body message."""

    side: Side
    part: Part
    forward: Forward = field(default_factory=Forward)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the body in FULL_DUPLEX_STREAMED mode. Replies need not match messages in number."""

    side: Side
    data: bytes = b""
    end: bool = False
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MoreTime:
    """Not the reply yet: Envoy's timer for it starts anew with `seconds` (`override_message_timeout`)."""

    seconds: float


Reply = Continue | Chunk | Reject | MoreTime
"""One reply to Envoy; a `Reject` is Envoy's ImmediateResponse."""
