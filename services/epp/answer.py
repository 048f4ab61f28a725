"""Read an answer that passes by: how many tokens the server says, and when the first one came."""

from __future__ import annotations

from services.epp.director import Reservation
from services.epp.records import Ended, EndOutcome
from services.extproc.events import ResponseChunk, ResponseHead
from services.openai.answer_model import EVENTS, EventRenamer, WholeRenamer, media_type, renamer
from services.openai.usage import Usage
from services.openai.usage_reader import UsageReader


class AnswerReader:
    """One answer. Changes nothing of it."""

    def __init__(self, head: ResponseHead) -> None:
        self._stream = (head.headers.get("content-type") or "").startswith("text/event-stream")
        self._reader = UsageReader(stream=self._stream)
        self.bytes = 0
        self.first_at: float | None = None
        """When the first piece of a stream came, by the clock of `feed`."""

    @property
    def usage(self) -> Usage | None:
        """What the server counted, so far."""
        return self._reader.usage

    def feed(self, chunk: ResponseChunk, now: float) -> None:
        """Take the next piece."""
        self.bytes += len(chunk.data)
        if self._stream and chunk.data and self.first_at is None:
            self.first_at = now
        self._reader.feed(chunk.data, end=chunk.end)


class Answer:
    """What this stream sees of the answer. Times are readings of the director's clock."""

    def __init__(self, began_at: float) -> None:
        self._began_at = began_at
        self._head_at: float | None = None
        self._status = 0
        self.sent_at = began_at
        self.reader: AnswerReader | None = None
        self._renamer: EventRenamer | WholeRenamer | None = None
        self.holds = False
        """It can only be renamed as a whole."""
        self.whole = False
        """The stream lasts until the answer has ended."""

    def began(self, head: ResponseHead, now: float, asked: str) -> None:
        """Look at the head; `asked` is the client's name for the model where the answer has to get it back."""
        self._head_at, self._status = now, head.status
        self.whole = head.end or head.body_seen
        self.reader = AnswerReader(head) if head.body_seen and not head.end else None
        if asked:
            get = head.headers.get
            kind = media_type(get("content-type") or "", get("content-encoding") or "")
            self._renamer = renamer(kind, asked)
            self.holds = self._renamer is not None and kind != EVENTS

    def feed(self, chunk: ResponseChunk, now: float) -> bytes:
        """Read a piece along; return what leaves in its place."""
        if self.reader is not None:
            self.reader.feed(chunk, now)
        return chunk.data if self._renamer is None else self._renamer.feed(chunk.data, end=chunk.end)

    def ended(self, reservation: Reservation, now: float, *, left: bool) -> Ended:
        """Return the end as this stream saw it; `left`: its client did."""
        start, reader = self._began_at, self.reader
        return Ended(
            pool=reservation.pool.name,
            decision=reservation.id,
            outcome=EndOutcome.CLIENT_LEFT if left else EndOutcome.COMPLETED,
            status=self._status,
            seconds=now - start,
            sent_after=self.sent_at - start,
            answered_after=None if self._head_at is None else self._head_at - start,
            first_token_after=reader.first_at - start if reader and reader.first_at is not None else None,
            response_bytes=reader.bytes if reader else 0,
            usage=reader.usage if reader else None,
        )
