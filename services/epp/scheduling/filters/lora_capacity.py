"""Only servers that can take the adapter without throwing another one out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Metrics, Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class LoraCapacity:
    """Servers that have the adapter, or a place for one more; all when there is none such.

    A request for the base model and a server that reports no adapters at all are not this filter's business.
    """

    fallback_on_empty: bool = True
    """Without it a request that no server has a place for is refused."""

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:
        """Keep those with the adapter or a place."""
        model = situation.digest.model
        if model == situation.base_model:
            return servers
        kept = [server for server in servers if _has_room(model, server.metrics)]
        return kept if kept or not self.fallback_on_empty else servers


def _has_room(model: str, metrics: Metrics) -> bool:
    held = metrics.active_adapters | metrics.waiting_adapters
    return not metrics.max_adapters or model in held or len(held) < metrics.max_adapters
