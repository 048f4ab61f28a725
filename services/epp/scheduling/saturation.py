"""How full a pool is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server


@dataclass(frozen=True, slots=True)
class Utilization:
    """Mean over the servers of max(waiting / depth, KV usage / threshold): the reference's `utilization-detector`.

    A server that is not ready or whose metrics are stale counts as full (1), and so does an empty pool.
    """

    queue_depth_threshold: int = 5
    kv_cache_util_threshold: float = 0.8
    metrics_staleness_threshold_seconds: float = 2.0
    """The reference's detector says 0.2, which assumes a scrape every 50 ms."""

    def __post_init__(self) -> None:
        if self.queue_depth_threshold < 1 or not 0 < self.kv_cache_util_threshold <= 1:
            raise ValueError(
                "queueDepthThreshold must be at least 1 and kvCacheUtilThreshold above 0 and at most 1"
            )

    def saturation(self, now: float, servers: Sequence[Server]) -> float:
        """Return the mean."""
        if not servers:
            return 1.0
        oldest = now - self.metrics_staleness_threshold_seconds
        return sum(self._server(server, oldest) for server in servers) / len(servers)

    def _server(self, server: Server, oldest: float) -> float:
        metrics = server.metrics
        if not server.ready or metrics.scraped_at < oldest:
            return 1.0
        return max(
            metrics.waiting / self.queue_depth_threshold, metrics.kv_usage / self.kv_cache_util_threshold
        )
