"""Pools that have a profile of their own."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Decision, Scheduler, Situation


@dataclass(frozen=True, slots=True)
class ByPool:
    """What a pool's `profile` names decides there; elsewhere the handler does."""

    default: Scheduler
    pools: Mapping[str, Scheduler]

    def run(self, situation: Situation, servers: Sequence[Server], rng: random.Random) -> Decision:
        """Let the pool's scheduler decide."""
        return self.pools.get(situation.pool, self.default).run(situation, servers, rng)

    def chosen(self, situation: Situation, decision: Decision) -> tuple[tuple[str, str], ...]:
        """Tell the pool's scheduler."""
        return self.pools.get(situation.pool, self.default).chosen(situation, decision)
