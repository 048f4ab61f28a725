"""How full a pool is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server


@dataclass(frozen=True, slots=True)
class Utilization:
    """Mean over the servers of max(waiting / depth, KV usage / threshold): the reference's `utilization-detector`.

    A server that is not ready counts as full (1), and so does an empty pool.
    """

    queue_depth_threshold: int = 5
    kv_cache_util_threshold: float = 0.8
    metrics_staleness_threshold_seconds: float | None = None
    """Older metrics count as full too; None leaves that to readiness. The reference has 0.2 and scrapes every 0.05."""

    def __post_init__(self) -> None:
        if self.queue_depth_threshold < 1 or not 0 < self.kv_cache_util_threshold <= 1:
            raise ValueError(
                "queueDepthThreshold must be at least 1 and kvCacheUtilThreshold above 0 and at most 1"
            )

    def saturation(self, now: float, servers: Sequence[Server]) -> float:
        """Return the mean."""
        if not servers:
            return 1.0
        staleness = self.metrics_staleness_threshold_seconds
        oldest = -math.inf if staleness is None else now - staleness
        return sum(self._server(server, oldest) for server in servers) / len(servers)

    def _server(self, server: Server, oldest: float) -> float:
        metrics = server.metrics
        if not server.ready or metrics.scraped_at < oldest:
            return 1.0
        return max(
            metrics.waiting / self.queue_depth_threshold, metrics.kv_usage / self.kv_cache_util_threshold
        )
