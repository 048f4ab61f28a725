"""Smaller batches are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class RunningRequests:
    """(max - n) / (max - min), and 1 for all when all are equal: the reference's `running-requests-size-scorer`.

    n is the scraped batch plus what was sent there since the scrape, less what ended since.
    """

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by what runs."""
        loads = situation.loads
        running = [
            max(0, server.metrics.running + loads[server.slot].unseen - loads[server.slot].finished)
            for server in servers
        ]
        most, fewest = max(running), min(running)
        if most == fewest:
            return [1.0] * len(running)
        return [(most - count) / (most - fewest) for count in running]
