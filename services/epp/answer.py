"""Read an answer that passes by: how many tokens the server says, and when the first one came."""

from __future__ import annotations

from services.extproc.events import ResponseChunk, ResponseHead
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
