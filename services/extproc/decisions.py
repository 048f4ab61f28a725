"""What should happen to an exchange, as plain frozen values. Only `wire` turns them into protobuf."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.extproc.events import Metadata


@dataclass(frozen=True, slots=True)
class Forward:
    """Let the message go on, changed as said."""

    set_headers: tuple[tuple[str, str], ...] = ()
    """Each replaces every header of its name."""
    remove_headers: tuple[str, ...] = ()
    body: bytes | None = None
    """The new body; None leaves it as it came, byte for byte."""
    metadata: Metadata = field(default_factory=dict)
    """Dynamic metadata for later filters, load balancing and the access log."""
    reroute: bool = False
    """Choose the route again with the changed headers."""
    last: bool = False
    """Nothing of the answer matters: where the filter has no body mode, the stream ends with this decision."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer the client here and now; nothing goes on to the next filter."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    details: str = ""
    """A word for Envoy's access log (`%RESPONSE_CODE_DETAILS%`): no spaces, low cardinality."""
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Answer to a request: the decision takes longer than Envoy waits. `Exchange.waited` is asked for it next.

    Envoy grants it once for each message, and only up to its `max_message_timeout`: more is ignored altogether.
    """

    seconds: float
    """Envoy's timer starts anew with this."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Answer to a response head: send the head now and hand every chunk to `Exchange.response_chunk`."""

    forward: Forward = field(default_factory=Forward)


@dataclass(frozen=True, slots=True)
class Hold:
    """Answer to a response head: hold head and body until all is here, then ask `Exchange.response_body`.

    Where Envoy has already sent the head (response mode STREAMED or NONE) this cannot be had; the session then
    refuses with `ProtocolError`, because a filter that cannot hold must not pretend.
    """

    limit: int = 16 * 1024 * 1024
    """Bytes held at most. Over it `Exchange.response_overflow` decides."""


@dataclass(frozen=True, slots=True)
class Emit:
    """What leaves in place of one response chunk. `k` chunks in need not be `k` chunks out."""

    data: bytes = b""
    end: bool = False
    """Finish the answer after `data` although more is coming: Envoy closes the upstream connection."""
    metadata: Metadata = field(default_factory=dict)


RequestDecision = Forward | Reject | Wait
HeadDecision = Forward | Stream | Hold | Reject
BodyDecision = Forward | Reject
