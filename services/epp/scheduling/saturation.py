"""How full a pool is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from services.epp.endpoints import Server
from services.epp.inflight import Load

NO_LOAD = Load()


@dataclass(frozen=True, slots=True)
class Utilization:
    """Mean over the servers of max(waiting / depth, KV usage / threshold): the reference's `utilization-detector`.

    A server that is not ready counts as full (1), and so does an empty pool. Metrics are some scrapes old: what was
    sent since and cannot be in the batch counts as waiting, so that a queue is not let out between two scrapes.
    """

    queue_depth_threshold: int = 5
    kv_cache_util_threshold: float = 0.8
    metrics_staleness_threshold_seconds: float | None = None
    """Older metrics count as full too; None leaves that to readiness. The reference has 0.2 and scrapes every 0.05."""
    burst: int = 8
    """Requests that a server without a queue takes between two scrapes before they count, or as many as it runs, if
    those are more: its batch may then double with every scrape."""

    def __post_init__(self) -> None:
        if self.queue_depth_threshold < 1 or not 0 < self.kv_cache_util_threshold <= 1 or self.burst < 0:
            raise ValueError(
                "queueDepthThreshold must be at least 1, kvCacheUtilThreshold above 0 and at most 1, burst no "
                "less than 0"
            )

    def saturation(self, now: float, servers: Sequence[Server], loads: Sequence[Load] = ()) -> float:
        """Return the mean."""
        if not servers:
            return 1.0
        staleness = self.metrics_staleness_threshold_seconds
        oldest = -math.inf if staleness is None else now - staleness
        return sum(self._server(server, oldest, loads) for server in servers) / len(servers)

    def _server(self, server: Server, oldest: float, loads: Sequence[Load]) -> float:
        metrics = server.metrics
        if not server.ready:
            return 1.0
        if not metrics.scraped_at:
            return 0.0  # ready without ever being asked: the pool's servers report nothing
        if metrics.scraped_at < oldest:
            return 1.0
        load = loads[server.slot] if loads else NO_LOAD
        room = 0 if metrics.waiting else max(metrics.running, self.burst)
        waiting = metrics.waiting + max(0, load.unseen - load.finished - room)
        return max(waiting / self.queue_depth_threshold, metrics.kv_usage / self.kv_cache_util_threshold)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """What is in flight over what the servers take: the reference's `concurrency-detector`. Needs no metrics.

    A server that is not ready takes nothing; a pool without a ready one is full.
    """

    max_concurrency: int = 100
    """Requests for each server."""
    max_token_concurrency: int = 1_000_000
    """Tokens of prompt and expected answer for each server."""
    concurrency_mode: Literal["requests", "tokens", "hybrid"] = "requests"
    """hybrid: whichever is fuller."""

    def __post_init__(self) -> None:
        if self.max_concurrency < 1 or self.max_token_concurrency < 1:
            raise ValueError("maxConcurrency and maxTokenConcurrency must be at least 1")

    def saturation(self, now: float, servers: Sequence[Server], loads: Sequence[Load] = ()) -> float:  # noqa: ARG002
        """Return the share in use."""
        ready = [server for server in servers if server.ready]
        if not ready:
            return 1.0
        return self._share([loads[server.slot] for server in ready] if loads else [NO_LOAD])

    def _share(self, loads: Sequence[Load]) -> float:
        requests = sum(load.requests for load in loads) / (len(loads) * self.max_concurrency)
        tokens = sum(load.context_tokens + load.output_tokens for load in loads)
        share = tokens / (len(loads) * self.max_token_concurrency)
        if self.concurrency_mode == "hybrid":
            return max(requests, share)
        return requests if self.concurrency_mode == "requests" else share
