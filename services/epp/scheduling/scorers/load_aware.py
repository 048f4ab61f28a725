"""Queues short of a threshold are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class LoadAware:
    """0.5 × (1 - q / threshold), at least 0: the reference's `load-aware-scorer`.

    q is the scraped queue plus what was sent there since the scrape, as in `queue-scorer`.
    """

    threshold: int = 128

    def __post_init__(self) -> None:
        if self.threshold < 1:
            raise ValueError(f"threshold must be at least 1, got {self.threshold}")

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by what waits."""
        queues = [server.metrics.waiting + situation.loads[server.slot].unseen for server in servers]
        return [0.5 * (1.0 - min(1.0, queue / self.threshold)) for queue in queues]
