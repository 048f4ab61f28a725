"""Profiles that always choose the same, for tests of who is asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Decision, Situation


@dataclass(slots=True)
class Fixed:
    """Chooses the servers at these positions, and remembers what it was asked and told."""

    name: str
    positions: tuple[int, ...] = (0,)
    asked: list[Situation] = field(default_factory=list)
    told: list[Server] = field(default_factory=list)

    def run(self, situation: Situation, servers: Sequence[Server], rng: random.Random) -> Decision:
        self.asked.append(situation)
        return Decision(tuple(servers[position] for position in self.positions), profile=self.name)

    def chosen(self, situation: Situation, decision: Decision) -> tuple[tuple[str, str], ...]:
        self.told.append(decision.servers[0])
        return ((f"x-{self.name}", "yes"),)
