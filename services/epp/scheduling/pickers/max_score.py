"""The best score wins."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class MaxScore:
    """The highest totals in descending order, ties in random order."""

    max_num_of_endpoints: int = 3
    """The first choice and its fallbacks. The reference names one; a list lets the proxy go on when a server is gone."""

    def __post_init__(self) -> None:
        if self.max_num_of_endpoints < 1:
            raise ValueError(f"maxNumOfEndpoints must be at least 1, got {self.max_num_of_endpoints}")

    def pick(self, situation: Situation, totals: Sequence[float], rng: random.Random) -> Sequence[int]:  # noqa: ARG002
        """Pick the highest."""
        draw = rng.random
        keyed = [(total, draw(), position) for position, total in enumerate(totals)]
        return [position for _, _, position in heapq.nlargest(self.max_num_of_endpoints, keyed)]
