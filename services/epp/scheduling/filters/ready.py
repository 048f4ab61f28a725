"""Only servers that answer, and news before old news."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class Ready:
    """Passes over servers that miss their scrapes.

    Servers with metrics older than `staleness` are passed over only while fresher ones exist: when
    all are stale the cause is more likely here than in every server, and old news beats refusing everybody.
    """

    staleness: float = 2.0
    """Seconds."""

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:
        """Keep the ready ones, and of those the fresh ones if there are any."""
        ready = [server for server in servers if server.ready]
        oldest = situation.now - self.staleness
        return [server for server in ready if server.metrics.scraped_at >= oldest] or ready
