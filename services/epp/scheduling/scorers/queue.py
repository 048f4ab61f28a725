"""Shorter queues are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class Queue:
    """(max - q) / (max - min), and 1 for all when all are equal: the reference's `queue-scorer`.

    q is the scraped queue plus what was sent there since the scrape. The formula is relative: one request more on one
    of two idle servers is worth the whole weight.
    """

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by what waits."""
        loads = situation.loads
        queues = [server.metrics.waiting + loads[server.slot].unseen for server in servers]
        longest, shortest = max(queues), min(queues)
        if longest == shortest:
            return [1.0] * len(queues)
        span = longest - shortest
        return [(longest - queue) / span for queue in queues]
