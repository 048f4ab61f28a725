"""Servers with the better latency, against what the request asks for, are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation
from services.epp.scheduling.latency import Headroom, Objectives, headrooms, objectives


@dataclass(frozen=True, slots=True)
class Latency:
    """Headroom, scaled to [0, 1] among the candidates that count and blended: the reference's `latency-scorer`.

    When some meet all objectives given only these count, and `least` prefers the one with the least to spare. When
    none does, idle servers count before others, then those that miss only the time per token, then only the time to
    the first one; and the smallest deficit is best. Without objectives the lowest predictions win.
    """

    ttft_weight: float = 0.8
    tpot_weight: float = 0.2
    headroom_selection_strategy: Literal["least", "most"] = "least"

    def __post_init__(self) -> None:
        if min(self.ttft_weight, self.tpot_weight) < 0 or self.ttft_weight + self.tpot_weight <= 0:
            raise ValueError("ttftWeight and tpotWeight must not be negative, nor both 0")

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by headroom."""
        found, wanted = headrooms(situation, servers), objectives(situation)
        kinds = [_deficit(wanted, headroom) for headroom in found]
        counted = [position for position, kind in enumerate(kinds) if not kind]
        met = bool(counted)
        if not met:
            counted = _least_bad(situation, servers, kinds)
        blended = self._blend([found[position] for position in counted])
        turned = met and self.headroom_selection_strategy == "least"
        scores = [0.0] * len(servers)
        for position, value in zip(counted, blended, strict=True):
            scores[position] = 1.0 - value if turned else value
        return scores

    def _blend(self, found: Sequence[Headroom]) -> list[float]:
        """Return the weighted mean of both, each scaled to [0, 1]; one in which all are equal does not count."""
        first = _scaled([headroom.ttft for headroom in found])
        each = _scaled([headroom.tpot for headroom in found])
        weight_first = self.ttft_weight if first else 0.0
        weight_each = self.tpot_weight if each else 0.0
        whole = weight_first + weight_each
        if not whole:
            return [0.5] * len(found)
        zeros = [0.0] * len(found)
        return [
            (weight_first * a + weight_each * b) / whole
            for a, b in zip(first or zeros, each or zeros, strict=True)
        ]


def _deficit(wanted: Objectives, headroom: Headroom) -> int:
    """Return 0 when all is met, else 1 when only the time per token is missed, 2 the first one's, 3 both."""
    if not wanted:
        return 3
    late = wanted.ttft is not None and headroom.ttft < 0
    slow = wanted.tpot is not None and headroom.tpot < 0
    return 2 * late + slow


def _least_bad(situation: Situation, servers: Sequence[Server], kinds: Sequence[int]) -> list[int]:
    loads = situation.loads
    idle = [position for position, server in enumerate(servers) if not loads[server.slot].requests]
    pool = idle or list(range(len(servers)))
    least = min(kinds[position] for position in pool)
    return [position for position in pool if kinds[position] == least]


def _scaled(values: Sequence[float]) -> list[float]:
    """Scale to [0, 1]; nothing when all are equal."""
    low, high = min(values), max(values)
    return [(value - low) / (high - low) for value in values] if high > low else []
