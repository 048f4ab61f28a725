"""Fewer of our own requests in flight are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class ActiveRequests:
    """1 up to `idle_threshold`, else (max - n) / max × `max_busy_score`: the reference's `active-request-scorer`.

    n is what was sent there and has not ended; it needs no metrics of the servers.
    """

    idle_threshold: int = 0
    max_busy_score: float = 1.0
    """Below 1 an idle server is better than any busy one."""

    def __post_init__(self) -> None:
        if self.idle_threshold < 0 or not 0 <= self.max_busy_score <= 1:
            raise ValueError("idleThreshold must not be negative, and maxBusyScore from 0 to 1")

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by requests in flight."""
        counts = [situation.loads[server.slot].requests for server in servers]
        most = max(counts)
        return [
            1.0 if count <= self.idle_threshold else (most - count) / most * self.max_busy_score
            for count in counts
        ]
