"""Read the usage off an answer that passes by, cut wherever the network cut it."""

from __future__ import annotations

from services.openai.sse import Framer, TooLong
from services.openai.usage import Usage, UsageMeter

MOST = 1024 * 1024
"""Bytes of a whole answer that are kept to find its usage; longer ones are embeddings or images."""


class UsageReader:
    """One answer, whole or streamed as events. Changes nothing of it."""

    __slots__ = ("_framer", "_meter", "_whole")

    def __init__(self, *, stream: bool) -> None:
        self._framer = Framer(MOST) if stream else None
        self._whole: bytearray | None = None if stream else bytearray()
        self._meter = UsageMeter()

    @property
    def usage(self) -> Usage | None:
        """What the server counted, so far."""
        return self._meter.usage

    def feed(self, data: bytes, *, end: bool) -> None:
        """Take the next piece; `end`: it is the last."""
        if self._framer is not None:
            for event in self._framer.feed(data):
                if not isinstance(event, TooLong) and event.data is not None:
                    self._meter.feed(event.data)
        elif self._whole is not None:
            self._collect(self._whole, data, end=end)

    def _collect(self, whole: bytearray, data: bytes, *, end: bool) -> None:
        if len(whole) + len(data) > MOST:
            self._whole = None
            return
        whole += data
        if end:
            self._meter.feed(bytes(whole))
