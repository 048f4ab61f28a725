"""What an answer that is judged anyway says of its cost, for whoever wants to know: metadata for the access log."""

from __future__ import annotations

from services.extproc.events import Metadata, Value
from services.openai.usage_reader import UsageReader

NAMESPACE = "gw.safety"
KEY = "usage"
"""`{prompt, completion, cached}` in tokens as the server counted them, as far as it did, and `first`: seconds from the
head of a streamed answer to its first event."""


class Toll:
    """One answer. `now` is a monotonic clock in seconds."""

    def __init__(self, began: float, *, stream: bool) -> None:
        self._began = began
        self._stream = stream
        self._first: float | None = None
        self._reader = UsageReader(stream=stream)

    def feed(self, data: bytes, now: float, *, end: bool) -> Metadata:
        """Take the next piece; return the metadata with the last one, empty when there is nothing to say."""
        if self._first is None and self._stream and data:
            self._first = now - self._began
        self._reader.feed(data, end=end)
        return self._told() if end else {}

    def _told(self) -> Metadata:
        told: dict[str, Value] = {} if self._first is None else {"first": round(self._first, 6)}
        if (usage := self._reader.usage) is not None:
            told |= {"prompt": usage.prompt, "completion": usage.completion, "cached": usage.cached}
        return {NAMESPACE: {KEY: told}} if told else {}
