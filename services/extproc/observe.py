"""What the transport reports about its streams. The core knows no metrics library and no log: adapters do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.extproc.events import Outcome


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One finished stream."""

    outcome: Outcome
    reason: str = ""
    """One word of a closed set: fit for a metric label."""
    method: str = ""
    path: str = ""
    request_id: str = ""
    status: int = 0
    """Of the answer, ours or the one that passed; 0 when none was seen."""
    seconds: float = 0.0
    """Life of the stream, waiting for the model included."""
    request_seconds: float = 0.0
    """Spent in the service's decision on the request."""
    response_seconds: float = 0.0
    """Spent in the service's decisions on the answer, all chunks together."""
    request_bytes: int = 0
    response_bytes: int = 0
    dropped_headers: bool = False
    """The service wanted to change headers that had already gone (body mode STREAMED): misconfigured filter."""


class Observer(Protocol):
    """Hears about every stream. Must not raise and must not block."""

    def started(self) -> None:
        """Hear that a stream has begun."""

    def failed(self, error: BaseException) -> None:
        """Hear of a bug in the service or a breach of the protocol, before the stream ends."""

    def ended(self, record: StreamRecord) -> None:
        """Hear that a stream is over."""


class Observers:
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def started(self) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.started()

    def failed(self, error: BaseException) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.failed(error)

    def ended(self, record: StreamRecord) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.ended(record)
