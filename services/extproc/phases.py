"""The legal order of messages on one side of an exchange. Everything illegal fails here, with one sentence."""

from __future__ import annotations

import enum

from services.extproc.errors import ProtocolError
from services.extproc.messages import Message, Part


class Phase(enum.Enum):
    """How much of one side has been seen."""

    START = "before the headers"
    BODY = "in the body"
    ENDED = "after the end of the stream"
    TRAILED = "after the trailers"


class Input(enum.Enum):
    """A message as the table sees it."""

    HEADERS = "headers"
    HEADERS_END = "headers with end of stream"
    BODY = "body"
    BODY_END = "body with end of stream"
    TRAILERS = "trailers"


TRANSITIONS: dict[tuple[Phase, Input], Phase] = {
    (Phase.START, Input.HEADERS): Phase.BODY,
    (Phase.START, Input.HEADERS_END): Phase.ENDED,
    (Phase.BODY, Input.BODY): Phase.BODY,
    (Phase.BODY, Input.BODY_END): Phase.ENDED,
    (Phase.BODY, Input.TRAILERS): Phase.TRAILED,
    # Envoy 1.35 to 1.37 repeats the end of bodies of 1 MB and more (envoy issue 46237): body after the end is ignored.
    (Phase.ENDED, Input.BODY): Phase.ENDED,
    (Phase.ENDED, Input.BODY_END): Phase.ENDED,
    (Phase.TRAILED, Input.BODY): Phase.TRAILED,
    (Phase.TRAILED, Input.BODY_END): Phase.TRAILED,
}

DONE = frozenset({Phase.ENDED, Phase.TRAILED})

_INPUTS = {
    (Part.HEADERS, False): Input.HEADERS,
    (Part.HEADERS, True): Input.HEADERS_END,
    (Part.BODY, False): Input.BODY,
    (Part.BODY, True): Input.BODY_END,
    (Part.TRAILERS, False): Input.TRAILERS,
    (Part.TRAILERS, True): Input.TRAILERS,
}


def advance(phase: Phase, message: Message) -> Phase:
    """Return the phase after `message`; raise `ProtocolError` when it may not come now."""
    given = _INPUTS[message.part, message.end]
    after = TRANSITIONS.get((phase, given))
    if after is None:
        side = message.side.value if message.side else "unknown"
        hint = f"; set {side}_header_mode: SEND" if phase is Phase.START else ""
        raise ProtocolError(f"{side} {given.value} {phase.value}{hint}")
    return after
