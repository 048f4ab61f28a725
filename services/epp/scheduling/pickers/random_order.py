"""Chance alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.scheduling.interfaces import Situation
from services.epp.scheduling.pickers.bound import FALLBACKS, check


@dataclass(frozen=True, slots=True)
class Random:
    """Any candidates, whatever their scores: the reference's `random-picker`."""

    max_num_of_endpoints: int = FALLBACKS

    def __post_init__(self) -> None:
        check(self.max_num_of_endpoints)

    def pick(self, situation: Situation, totals: Sequence[float], rng: random.Random) -> Sequence[int]:  # noqa: ARG002
        """Pick some."""
        return rng.sample(range(len(totals)), min(self.max_num_of_endpoints, len(totals)))
