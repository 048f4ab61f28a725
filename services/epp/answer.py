"""Read an answer that passes by: how many tokens the server says, and when the first one came."""

from __future__ import annotations

from services.extproc.events import ResponseChunk, ResponseHead
from services.openai.sse import Framer, TooLong
from services.openai.usage import Usage, UsageMeter

MOST = 1024 * 1024
"""Bytes of a whole answer that are kept to find its usage; longer ones are embeddings or images."""


class AnswerReader:
    """One answer. Changes nothing of it."""

    def __init__(self, head: ResponseHead) -> None:
        stream = (head.headers.get("content-type") or "").startswith("text/event-stream")
        self._framer = Framer(MOST) if stream else None
        self._whole: bytearray | None = None if stream else bytearray()
        self._meter = UsageMeter()
        self.bytes = 0
        self.first_at: float | None = None
        """When the first piece of a stream came, by the clock of `feed`."""

    @property
    def usage(self) -> Usage | None:
        """What the server counted, so far."""
        return self._meter.usage

    def feed(self, chunk: ResponseChunk, now: float) -> None:
        """Take the next piece."""
        self.bytes += len(chunk.data)
        if self._framer is not None:
            self._events(self._framer, chunk.data, now)
        elif self._whole is not None:
            self._collect(self._whole, chunk)

    def _events(self, framer: Framer, data: bytes, now: float) -> None:
        if data and self.first_at is None:
            self.first_at = now
        for event in framer.feed(data):
            if not isinstance(event, TooLong) and event.data is not None:
                self._meter.feed(event.data)

    def _collect(self, whole: bytearray, chunk: ResponseChunk) -> None:
        if len(whole) + len(chunk.data) > MOST:
            self._whole = None
            return
        whole += chunk.data
        if chunk.end:
            self._meter.feed(bytes(whole))
