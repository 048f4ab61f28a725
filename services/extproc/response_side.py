"""The answer's half of a session: ask about the head, then pass, stream or hold the body as the service wants."""

from __future__ import annotations

from services.extproc.decisions import Emit, Forward, Hold, Stream
from services.extproc.errors import ProtocolError
from services.extproc.events import ResponseChunk, ResponseHead
from services.extproc.messages import Chunk, Continue, Message, Mode, Part, Reply, Side
from services.extproc.passage import CLEARED, Held, Passage, has_checked_length, with_length
from services.extproc.phases import DONE, Phase, advance
from services.extproc.turns import NOTHING, HeldBody, Overflow, Turn

HOLDING = frozenset({Mode.BUFFERED, Mode.FULL_DUPLEX_STREAMED})
"""In these modes Envoy lets a head wait for the body's decision."""


class ResponseSide:
    """One answer. Exactly one of passing, streaming and holding is on once the head is decided."""

    def __init__(self, mode: Mode, *, request_seen: bool) -> None:
        self._mode = mode
        self._request_seen = request_seen
        self._phase = Phase.START
        self._held: Held | None = None
        self._passage: Passage | None = None
        self._limit: int | None = None
        self._chunk: Message | None = None
        self._whole = False
        self._intact = True
        self._sets_length = False
        self.ended_early = False
        self.dropped_headers = False
        self.status = 0
        self.bytes = 0

    @property
    def complete(self) -> bool:
        """Nothing more of the answer will come, and all of it is answered."""
        if self._held is not None or self._chunk is not None:
            return False
        return self._phase in DONE or self._mode is Mode.NONE or self._whole

    @property
    def held(self) -> int:
        """Body bytes that wait for the decision."""
        return self._held.size if self._held else 0

    def receive(self, message: Message) -> Turn:
        """Take one message of the answer."""
        before, self._phase = self._phase, advance(self._phase, message)
        if message.part is Part.HEADERS:
            return self._headers(message)
        if before in DONE:
            return NOTHING
        self.bytes += len(message.data)
        if self.ended_early:
            return Turn(self._swallow(message))
        if self._passage is not None:
            return Turn(self._pass(self._passage, message))
        self._whole = self._mode is Mode.BUFFERED and message.part is Part.BODY
        return self._collect(message) if self._held is not None else self._ask_chunk(message)

    def decide(self, decision: Forward | Stream | Hold) -> Turn:
        """Answer the head."""
        held = self._expect_held()
        if isinstance(decision, Forward):
            return self.release(decision)
        if isinstance(decision, Hold):
            return self._hold(held, decision)
        if decision.forward.body is not None:
            raise ProtocolError("Stream cannot carry a body: its chunks do")
        if self._phase in DONE:
            return self.release(decision.forward)
        if self._mode is Mode.NONE:
            raise ProtocolError("Stream needs a response body mode, this filter has NONE")
        self._held = None
        return Turn((Continue(Side.RESPONSE, Part.HEADERS, decision.forward),))

    def release(self, forward: Forward) -> Turn:
        """Let the head and what is held of the body go on, and all that follows unseen."""
        released = self._expect_held().release(forward, self._phase)
        self._passage, self._held = released.passage, None
        self.dropped_headers = self.dropped_headers or released.dropped
        return Turn(released.replies)

    def emit(self, emit: Emit) -> Turn:
        """Answer the chunk that was asked about."""
        message, self._chunk = self._chunk, None
        if message is None:
            raise ProtocolError("no response chunk waits for an answer")
        self._intact = self._intact and emit.data == message.data
        self.ended_early = emit.end and not self._at_end
        if self._whole:
            self._passage = Passage(Side.RESPONSE, self._mode)
        if message.part is Part.TRAILERS:
            return Turn(self._last_words(emit))
        if self._mode is Mode.FULL_DUPLEX_STREAMED:
            end = emit.end or message.end
            needed = emit.data or end or emit.metadata
            return Turn((Chunk(Side.RESPONSE, emit.data, end, emit.metadata),) if needed else ())
        body = None if emit.data == message.data else emit.data
        change = Forward(body=body, metadata=emit.metadata)
        return Turn(
            (Continue(Side.RESPONSE, Part.BODY, with_length(change) if self._sets_length else change),)
        )

    def may_reject(self) -> bool:
        """Whether Envoy can still send another answer instead of this one."""
        return (self._held is not None and self._held.head_owed) or self._mode is Mode.BUFFERED

    def bypass(self) -> Turn:
        """Let everything from here on pass unseen. Raise `ProtocolError` when bytes held by the service would be lost."""
        if self._held is not None:
            return self.release(Forward())
        if self._chunk is None or not self._intact:
            raise ProtocolError("the answer cannot go on unchanged: part of it is already changed")
        message = self._chunk
        turn = self.emit(Emit(message.data))
        self._passage = Passage(Side.RESPONSE, self._mode)
        return turn

    @property
    def _at_end(self) -> bool:
        return self._phase in DONE or self._whole

    def _expect_held(self) -> Held:
        if self._held is None:
            raise ProtocolError("no response waits for a decision")
        return self._held

    def _headers(self, message: Message) -> Turn:
        self._held = Held(Side.RESPONSE, self._mode, message)
        self._sets_length = has_checked_length(self._mode, message)
        status = message.headers.get(":status", "")
        self.status = int(status) if status and status.isascii() and status.isdigit() else 0
        head = ResponseHead(
            self.status,
            message.headers,
            end=message.end,
            request_seen=self._request_seen,
            body_seen=self._mode is not Mode.NONE,
            can_hold=self._mode in HOLDING,
            metadata=message.metadata,
            attributes=message.attributes,
        )
        return Turn(ask=head)

    def _hold(self, held: Held, hold: Hold) -> Turn:
        self._limit = hold.limit
        if self._phase in DONE:
            return Turn(ask=HeldBody(b""))
        if self._mode is Mode.FULL_DUPLEX_STREAMED:
            return NOTHING
        if self._mode is Mode.BUFFERED:
            return Turn((held.let_head_go(),))
        raise ProtocolError(f"Hold needs BUFFERED or FULL_DUPLEX_STREAMED, this filter has {self._mode.name}")

    def _collect(self, message: Message) -> Turn:
        held = self._expect_held()
        if message.part is Part.BODY:
            held.add(message.data)
        if self._limit is not None and held.size > self._limit:
            return Turn(ask=Overflow(held.data))
        return Turn(ask=HeldBody(held.data)) if self._at_end else NOTHING

    def _ask_chunk(self, message: Message) -> Turn:
        self._chunk = message
        return Turn(ask=ResponseChunk(message.data, end=self._at_end))

    def _pass(self, passage: Passage, message: Message) -> tuple[Reply, ...]:
        if message.part is Part.TRAILERS:
            return passage.trailers()
        return passage.body(message.data, end=message.end)

    def _last_words(self, emit: Emit) -> tuple[Reply, ...]:
        """Answer the trailers, with what the service still had in hand before them."""
        if emit.data and self._mode is not Mode.FULL_DUPLEX_STREAMED:
            raise ProtocolError(f"{len(emit.data)} bytes held back, and no body message left to carry them")
        return Passage(Side.RESPONSE, self._mode, Forward(body=emit.data, metadata=emit.metadata)).trailers()

    def _swallow(self, message: Message) -> tuple[Reply, ...]:
        """Answer what comes after the end that the service set: in FULL_DUPLEX_STREAMED nothing is owed."""
        if self._mode is Mode.FULL_DUPLEX_STREAMED:
            return ()
        change = CLEARED if message.part is Part.BODY else Forward()
        return (Continue(Side.RESPONSE, message.part, change),)
