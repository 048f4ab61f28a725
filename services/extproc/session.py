"""One ext_proc stream without I/O: messages in, replies and questions out.

    turn = session.receive(message)          # replies to send, and perhaps a question to the exchange
    turn = session.answer(decision)          # what the exchange decided on that question

A session knows every body mode and what is legal in it; it knows no gRPC, no protobuf and no time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from services.extproc.decisions import Emit, Forward, Hold, Reject, Stream, Wait
from services.extproc.errors import ProtocolError
from services.extproc.events import Outcome, Request
from services.extproc.messages import Message, Mode, Modes, MoreTime, Part, Side
from services.extproc.request_side import RequestSide
from services.extproc.response_side import ResponseSide
from services.extproc.turns import NOTHING, Decision, Turn, Waiting

UNSUPPORTED = frozenset({Mode.BUFFERED_PARTIAL, Mode.GRPC})
"""The first lets the rest of a long body pass unseen; Envoy has not implemented the second."""

OBSERVED = Modes(Mode.STREAMED, Mode.STREAMED)
"""Envoy sends no modes in `observability_mode`, and allows no other body mode there."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a session can tell about its exchange, at any time."""

    request: Request | None = None
    """The request as far as it was seen."""
    status: int = 0
    """Of the answer: ours, or the one that came; 0 while there is none."""
    request_bytes: int = 0
    response_bytes: int = 0
    dropped_headers: bool = False
    """Header changes were asked for when the headers had already gone: they did not happen."""


class Session:
    """The conversation over one gRPC stream. `body_limit` is the most bytes of a request body that it holds."""

    def __init__(self, *, body_limit: int, decides_on_headers: Callable[[Request], bool]) -> None:
        self._body_limit = body_limit
        self._decides_on_headers = decides_on_headers
        self._modes: Modes | None = None
        self._observing = False
        self._bypassed = False
        self._request: RequestSide | None = None
        self._response: ResponseSide | None = None
        self._rejected: Reject | None = None
        self._finished = False

    @property
    def over(self) -> bool:
        """The client has our own answer, or the service wants nothing more: the stream can end."""
        return self._rejected is not None or self._finished

    @property
    def awaits_answer(self) -> bool:
        """The request has gone on, and nothing has been heard of its answer."""
        return (
            self._request is not None and self._request.decided and self._response is None and not self.over
        )

    @property
    def progress(self) -> Progress:
        """What is known of the exchange now."""
        request, response = self._request, self._response
        return Progress(
            request=request.request if request else None,
            status=self._rejected.status if self._rejected else response.status if response else 0,
            request_bytes=request.bytes if request else 0,
            response_bytes=response.bytes if response else 0,
            dropped_headers=any(side.dropped_headers for side in (request, response) if side),
        )

    @property
    def held(self) -> int:
        """Body bytes that wait for a decision now."""
        return sum(side.held for side in (self._request, self._response) if side)

    def receive(self, message: Message) -> Turn:
        """Take one message. A question in the turn must be answered before the next message."""
        if self._modes is None:
            self._observing = message.observing
            self._modes = _supported(message.modes or (OBSERVED if message.observing else Modes()))
        if self.over:
            return NOTHING
        if message.side is None:
            return self._unknown()
        turn = self._take_request(message) if message.side is Side.REQUEST else self._take_response(message)
        return self._told(turn)

    def answer(self, decision: Decision) -> Turn:
        """Turn the decision on the open question into replies, and perhaps the next question."""
        if isinstance(decision, Reject):
            return self._told(self._reject(decision))
        if isinstance(decision, Wait):
            return self._told(self._wait(decision))
        if self._response is None:
            if self._request is None or not isinstance(decision, Forward):
                raise ProtocolError(f"{type(decision).__name__} is no answer to a request")
            self._finished = decision.last and self._config == Modes()
            return self._told(self._request.release(decision))
        return self._told(self._answer_response(self._response, decision))

    def bypass(self) -> Turn:
        """Let the exchange pass as it comes from here on, and ask nothing more: what fail-open means.

        Raises `ProtocolError` where that would lose bytes that the service has already taken.
        """
        self._bypassed = True
        if self._response is not None:
            return self._told(self._response.bypass())
        if self._request is not None and not self._request.decided:
            return self._told(self._request.release(Forward()))
        return NOTHING

    def outcome(self) -> Outcome:
        """Say how the exchange ended, if it ended now.

        A request without a response counts as forwarded when the filter has no response body mode: Envoy does not
        tell whether it skips the response headers.
        """
        request, response = self._request, self._response
        if self._rejected is not None or (response is not None and response.ended_early):
            return Outcome.REJECTED
        if response is not None:
            return Outcome.FORWARDED if response.complete else Outcome.ABANDONED
        skipped = self._modes is not None and self._modes.response is Mode.NONE
        done = request is not None and request.complete and skipped
        return Outcome.FORWARDED if done else Outcome.ABANDONED

    def _take_request(self, message: Message) -> Turn:
        if self._request is None:
            if self._response is not None:
                raise ProtocolError("request after the response")
            self._request = RequestSide(self._config, self._body_limit, self._decides_on_headers)
        if self._response is not None and not self._request.decided:
            return NOTHING  # Envoy has answered in the meantime: its 413, a timeout, another filter's refusal
        return self._request.receive(message)

    def _take_response(self, message: Message) -> Turn:
        if self._response is None:
            seen = self._request is not None and self._request.decided
            self._response = ResponseSide(self._config.response, request_seen=seen)
        turn = self._response.receive(message)
        if self._bypassed and message.part is Part.HEADERS:
            return self._response.release(Forward())
        return turn

    @property
    def _config(self) -> Modes:
        return self._modes or Modes()

    def _answer_response(self, side: ResponseSide, decision: Forward | Stream | Hold | Emit) -> Turn:
        if isinstance(decision, Emit):
            return side.emit(decision)
        return side.decide(decision)

    def _wait(self, wait: Wait) -> Turn:
        if self._request is None or self._request.decided or self._response is not None:
            raise ProtocolError("Wait is an answer to a request")
        return Turn((MoreTime(wait.seconds),), Waiting())

    def _reject(self, reject: Reject) -> Turn:
        if self._response is not None and not self._response.may_reject():
            raise ProtocolError("the head of the answer has gone: it can no longer be refused")
        self._rejected = reject
        return Turn((reject,))

    def _unknown(self) -> Turn:
        if self._request is not None and not self._request.decided:
            raise ProtocolError("a message of an unknown kind while a decision is due")
        return NOTHING

    def _told(self, turn: Turn) -> Turn:
        return replace(turn, replies=()) if self._observing and turn.replies else turn


def _supported(modes: Modes) -> Modes:
    for mode in (modes.request, modes.response):
        if mode in UNSUPPORTED:
            raise ProtocolError(
                f"body mode {mode.name} is not supported: use BUFFERED or FULL_DUPLEX_STREAMED"
            )
    return modes
