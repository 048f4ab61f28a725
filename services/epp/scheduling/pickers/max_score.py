"""The best score wins."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.scheduling.interfaces import Situation
from services.epp.scheduling.pickers.bound import FALLBACKS, check


@dataclass(frozen=True, slots=True)
class MaxScore:
    """The highest totals in descending order, ties in random order: the reference's `max-score-picker`."""

    max_num_of_endpoints: int = FALLBACKS

    def __post_init__(self) -> None:
        check(self.max_num_of_endpoints)

    def pick(self, situation: Situation, totals: Sequence[float], rng: random.Random) -> Sequence[int]:  # noqa: ARG002
        """Pick the highest."""
        best = heapq.nlargest(self.max_num_of_endpoints, totals)
        draw, least = rng.random, best[-1]
        keyed = [(total, draw(), position) for position, total in enumerate(totals) if total >= least]
        return [position for _, _, position in heapq.nlargest(self.max_num_of_endpoints, keyed)]
