"""Emptier KV caches are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class KvCacheUtilization:
    """1 - usage: the reference's `kv-cache-utilization-scorer`."""

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:  # noqa: ARG002 - Scorer
        """Score by free cache."""
        return [1.0 - server.metrics.kv_usage for server in servers]
