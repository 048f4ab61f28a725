"""Only servers below given limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The most that a server may have and still pass."""

    metric: Literal["active-requests", "running-requests", "waiting-queue", "kv-cache-utilization"]
    max_value: float

    def __post_init__(self) -> None:
        if self.max_value < 0 or (self.metric == "kv-cache-utilization" and self.max_value > 1):
            raise ValueError(
                f"maxValue {self.max_value}: expected no less than 0, and a share up to 1 for the KV cache"
            )

    def met(self, situation: Situation, server: Server) -> bool:
        """Say whether `server` is within the limit. `active-requests` are ours in flight, the others are scraped."""
        match self.metric:
            case "active-requests":
                value: float = situation.loads[server.slot].requests
            case "running-requests":
                value = server.metrics.running
            case "waiting-queue":
                value = server.metrics.waiting
            case "kv-cache-utilization":
                value = server.metrics.kv_usage
        return value <= self.max_value


@dataclass(frozen=True, slots=True)
class UtilizationLimits:
    """Servers that meet every condition: the reference's `utilization-filter`."""

    conditions: tuple[Condition, ...]
    fallback_on_empty: bool = False
    """Whether all pass when none does; else the request is refused."""

    def __post_init__(self) -> None:
        if not self.conditions:
            raise ValueError("conditions: at least one is needed")

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:
        """Keep those within the limits."""
        kept = [
            server for server in servers if all(limit.met(situation, server) for limit in self.conditions)
        ]
        return kept if kept or not self.fallback_on_empty else servers
