"""The request's half of a session: collect what the service wants to see, ask once, let the rest pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from services.extproc.decisions import Forward
from services.extproc.errors import ProtocolError, TooLarge
from services.extproc.events import Request
from services.extproc.messages import Message, Mode, Modes, Part, Side
from services.extproc.passage import Held, Passage
from services.extproc.phases import DONE, Phase, advance
from services.extproc.turns import NOTHING, Refusal, Turn


class RequestSide:
    """One request. `limit` bounds the bytes held while the body is collected.

    STREAMED has two limits of Envoy's making: replies to chunks are withheld until the decision, so a body longer
    than Envoy's buffer, or one that ends by trailers (sent only after every chunk is answered), runs into its message
    timeout: 504, and nothing undecided goes upstream.
    """

    def __init__(self, modes: Modes, limit: int, decides_on_headers: Callable[[Request], bool]) -> None:
        self._mode = modes.request
        self._may_hold_head = self._mode is Mode.FULL_DUPLEX_STREAMED or (
            self._mode is Mode.STREAMED and modes.early
        )
        self._limit = limit
        self._decides_on_headers = decides_on_headers
        self._phase = Phase.START
        self._held: Held | None = None
        self._passage: Passage | None = None
        self._whole = False
        self.request: Request | None = None
        """The request as far as it has been seen."""
        self.bytes = 0
        self.dropped_headers = False

    @property
    def decided(self) -> bool:
        """The service has said what should happen to the request."""
        return self._passage is not None

    @property
    def complete(self) -> bool:
        """Decided, and nothing more of the request will come."""
        return self.decided and (self._phase in DONE or self._mode is Mode.NONE or self._whole)

    @property
    def held(self) -> int:
        """Body bytes that wait for the decision."""
        return self._held.size if self._held else 0

    def receive(self, message: Message) -> Turn:
        """Take one message of the request."""
        before, self._phase = self._phase, advance(self._phase, message)
        if message.part is Part.HEADERS:
            return self._headers(message)
        if before in DONE:
            return NOTHING
        self.bytes += len(message.data)
        self._whole = self._mode is Mode.BUFFERED and message.part is Part.BODY
        if self._passage is None:
            return self._collect(message)
        if message.part is Part.TRAILERS:
            return Turn(self._passage.trailers())
        return Turn(self._passage.body(message.data, end=message.end))

    def release(self, forward: Forward) -> Turn:
        """Let the request go on as the service decided."""
        if self._held is None or self._passage is not None:
            raise ProtocolError("no request waits for a decision")
        released = self._held.release(forward, self._phase)
        self._passage, self._held = released.passage, None
        self.dropped_headers = released.dropped
        return Turn(released.replies)

    def _headers(self, message: Message) -> Turn:
        self._held = Held(Side.REQUEST, self._mode, message)
        body = b"" if message.end else None
        self.request = Request(message.headers, body, message.metadata, message.attributes)
        if message.end or self._mode is Mode.NONE or self._decides_on_headers(self.request):
            return Turn(ask=self.request)
        return NOTHING if self._may_hold_head else Turn((self._held.let_head_go(),))

    def _collect(self, message: Message) -> Turn:
        if self._held is None or self.request is None:
            raise ProtocolError("request body without a request")
        if message.part is Part.BODY:
            self._held.add(message.data)
        if self._held.size > self._limit:
            return Turn(ask=Refusal(TooLarge(f"the request body is over the limit of {self._limit} bytes")))
        # BUFFERED comes in one message, without `end` when trailers follow it.
        if self._phase not in DONE and not self._whole:
            return NOTHING
        metadata = message.metadata or self.request.metadata
        self.request = replace(self.request, body=self._held.data, metadata=metadata)
        return Turn(ask=self.request)
