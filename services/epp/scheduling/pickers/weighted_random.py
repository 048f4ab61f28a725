"""Chance in proportion to the score."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.scheduling.interfaces import Situation
from services.epp.scheduling.pickers.bound import FALLBACKS, check


@dataclass(frozen=True, slots=True)
class WeightedRandom:
    """Drawn without replacement, each time in proportion to the totals: the reference's `weighted-random-picker`.

    A-Res (Efraimidis and Spirakis, 2006): the largest keys U^(1/total) with U uniform in (0, 1); here their logarithms,
    which do not underflow. Totals of 0 come after all others, in random order.
    """

    max_num_of_endpoints: int = FALLBACKS

    def __post_init__(self) -> None:
        check(self.max_num_of_endpoints)

    def pick(self, situation: Situation, totals: Sequence[float], rng: random.Random) -> Sequence[int]:  # noqa: ARG002
        """Draw."""
        keyed = [(_key(total, rng), rng.random(), position) for position, total in enumerate(totals)]
        return [position for _, _, position in heapq.nlargest(self.max_num_of_endpoints, keyed)]


def _key(total: float, rng: random.Random) -> float:
    # 1 - random() is never 0.
    return math.log(1.0 - rng.random()) / total if total > 0 else -math.inf
