"""One server's numbered messages in order, nothing missing: duplicates, gaps, replays and restarts. Sans-IO.

A publisher numbers its messages from 0 and keeps the last ones for replay. The transport hands over what comes, and
asks for a replay whenever `asking` says from where. What was lost for good is told as `reset`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import xxhash

QUEUED = 10_000
"""Messages kept while a replay is under way: as many as vLLM keeps for replays."""


@dataclass(slots=True)
class Counts:
    """What happened to one stream, since its start."""

    gaps: int = 0
    restarts: int = 0
    lost: int = 0
    """Gaps that no replay filled."""


class MessageStream:
    """Calls `apply` with each payload once and in order, and `reset` where the view begins anew.

    `reset(True)` says that what follows is everything that the server holds, `reset(False)` that it may hold more.
    """

    def __init__(self, apply: Callable[[bytes], None], reset: Callable[[bool], None]) -> None:
        self.asking: int | None = 0
        """The first message that a replay should bring; None when none is wanted."""
        self.counts = Counts()
        self._apply = apply
        self._reset = reset
        self._next = 0
        self._last_live = -1
        self._last_hash = 0
        self._queue: deque[tuple[int, bytes]] = deque(maxlen=QUEUED)
        self._advanced = False
        """The replay under way has brought something new,"""
        self._overlapped = False
        """or at least the last message again."""
        self._another = False
        """The replay under way is of a process that is no more."""

    def check(self) -> None:
        """Ask whether there is anything new: the last message may be lost, or its process gone without another word."""
        if self.asking is None:
            self.asking = self._from

    def live(self, number: int, payload: bytes) -> None:
        """Take a message as it was published."""
        if number <= self._last_live:
            self._restart()
        self._last_live = number
        if self.asking is not None:
            self._queue.append((number, payload))
        else:
            self._take(number, payload)

    def replayed(self, number: int, payload: bytes) -> None:
        """Take a message of the replay that was asked for."""
        if self.asking is None or self._another:
            return
        if number == self._next - 1 and xxhash.xxh3_64_intdigest(payload) != self._last_hash:
            # Under the number of the last message there is another one: that was another process.
            self._restart()
            self._another = True
        elif number == self._next - 1:
            self._overlapped = True
        elif number == self._next:
            self._accept(number, payload)
        elif number > self._next and not self._advanced:
            self._lose(number)
            self._accept(number, payload)

    def ended(self, *, complete: bool) -> None:
        """Go on after a replay, which came to its end or failed (`complete` false)."""
        if self._another:
            self._another = False
            if complete:
                return
        advanced, overlapped = self._advanced, self._overlapped
        self._advanced = self._overlapped = False
        if complete and self._next and not (advanced or overlapped):
            self._restart()  # whoever answers has never published our last message
            return
        first = self._queue[0][0] if self._queue else self._next
        if first > self._next and complete and advanced:
            self.asking = self._from  # the replay had a hole, or the queue was too short for it
            return
        if first > self._next:
            self._lose(first)
        elif complete and self._next == 0 and not self._queue:
            self._reset(True)  # nothing was ever published
        self.asking = None
        queued, self._queue = self._queue, deque(maxlen=QUEUED)
        for number, payload in queued:
            self._take(number, payload)

    @property
    def _from(self) -> int:
        """Where a replay should begin: with the last message again, to see that it is the same process."""
        return max(0, self._next - 1)

    def _take(self, number: int, payload: bytes) -> None:
        if self.asking is not None:
            self._queue.append((number, payload))
        elif number == self._next:
            self._accept(number, payload)
        elif number > self._next:
            self.counts.gaps += 1
            self.asking = self._from
            self._queue.append((number, payload))

    def _accept(self, number: int, payload: bytes) -> None:
        if number == 0:
            self._reset(True)
        self._apply(payload)
        self._next = number + 1
        self._last_hash = xxhash.xxh3_64_intdigest(payload)
        self._advanced = True

    def _lose(self, number: int) -> None:
        """Begin anew with message `number`: the ones before it are not to be had."""
        self.counts.lost += 1
        self._reset(False)
        self._next = number

    def _restart(self) -> None:
        self.counts.restarts += 1
        self._reset(False)
        self._next, self.asking = 0, 0
        self._advanced = self._overlapped = False
        self._queue.clear()
        self._last_live = -1
