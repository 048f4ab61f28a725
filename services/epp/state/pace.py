"""How often Redis is asked: seldom while there is much, at once while there is little."""

from __future__ import annotations

import math

BURST = 2
"""More that may go at once after a rest: news of a pool that is not busy need not wait for those just before."""


class Pace:
    """Lets one through each `interval` seconds in the long run (the generic cell rate algorithm, ITU-T I.371)."""

    def __init__(self, interval: float) -> None:
        self.due = -math.inf
        """When the next one may go."""
        self._interval = interval

    def went(self, now: float) -> None:
        """Note that one went through, perhaps before its time: no other waits longer than an interval for that."""
        self.due = min(max(self.due, now - BURST * self._interval), now) + self._interval

    def hurry(self) -> None:
        """Let the next one through at once."""
        self.due = -math.inf
