"""Servers that will meet the request's objectives, if there are any such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation
from services.epp.scheduling.latency import headrooms, objectives


@dataclass(frozen=True, slots=True)
class SloHeadroomTier:
    """Those with headroom on every objective given: the reference's `slo-headroom-tier-filter`.

    All pass when no objective is given, or none or all can meet them. With the chance `epsilon_explore_neg` only the
    others pass, so that a server that recovered is found out.
    """

    epsilon_explore_neg: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon_explore_neg <= 1:
            raise ValueError(f"epsilonExploreNeg must be from 0 to 1, got {self.epsilon_explore_neg}")

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:
        """Keep one tier."""
        wanted = objectives(situation)
        if not wanted:
            return servers
        tiers: dict[bool, list[Server]] = {True: [], False: []}
        for server, headroom in zip(servers, headrooms(situation, servers), strict=True):
            met = (wanted.ttft is None or headroom.ttft >= 0) and (wanted.tpot is None or headroom.tpot >= 0)
            tiers[met].append(server)
        if not tiers[True] or not tiers[False]:
            return servers
        return tiers[situation.chance >= self.epsilon_explore_neg]
