"""Servers that have the adapter loaded are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Metrics, Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class LoraAffinity:
    """1.0 loaded, 0.8 a free place, 0.6 waiting to be loaded, 0 otherwise: the reference's `lora-affinity-scorer`.

    A request for the base model, where the router in front says which that is, needs no place: 1.0 everywhere.
    """

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by what is loaded."""
        model = situation.digest.model
        if model == situation.base_model:
            return [1.0] * len(servers)
        return [_affinity(model, server.metrics) for server in servers]


def _affinity(model: str, metrics: Metrics) -> float:
    if model in metrics.active_adapters:
        return 1.0
    if len(metrics.active_adapters) + len(metrics.waiting_adapters) < metrics.max_adapters:
        return 0.8
    return 0.6 if model in metrics.waiting_adapters else 0.0
