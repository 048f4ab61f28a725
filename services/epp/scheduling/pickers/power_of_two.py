"""The better of two at random."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.scheduling.interfaces import Situation
from services.epp.scheduling.pickers.bound import FALLBACKS, check


@dataclass(frozen=True, slots=True)
class PowerOfTwo:
    """Two candidates at random, the better one first; then the best of the others as further fallbacks.

    Several replicas with the same old news do not all run to the same server, and yet the worst one is never taken
    first while there are two (Mitzenmacher, 2001).
    """

    max_num_of_endpoints: int = FALLBACKS

    def __post_init__(self) -> None:
        check(self.max_num_of_endpoints)

    def pick(self, situation: Situation, totals: Sequence[float], rng: random.Random) -> Sequence[int]:  # noqa: ARG002
        """Pick."""
        pair = rng.sample(range(len(totals)), min(2, len(totals)))
        pair.sort(key=totals.__getitem__, reverse=True)
        others = (position for position in range(len(totals)) if position not in pair)
        further = max(0, self.max_num_of_endpoints - len(pair))
        return [*pair, *heapq.nlargest(further, others, key=totals.__getitem__)][: self.max_num_of_endpoints]
