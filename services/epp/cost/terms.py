"""A sum of positive terms, whose rates are learnt from totals: each gets the blame by its share of what was expected."""

from __future__ import annotations

import math
from collections.abc import Sequence

GAIN = 0.05
"""Share of the way to a new measurement, in the long run: the last twenty or so count. The first ones count more."""
FURTHEST = 10_000.0
"""From the prior, as a factor: what is measured as nothing must not become nothing."""
BOLD = 4.0
"""A measurement counts as at most so many times more or less than expected: one hiccup moves little, a new truth is
reached in a few steps."""


class Terms:
    """y = sum of rate · x. Rates move by factors, so that they stay positive and short and long requests count alike.

    The first measurements move all rates alike; then it is the normalised least-mean-squares rule of Widrow and Hoff on
    logarithms.
    """

    __slots__ = ("_prior", "_seen", "rates")

    def __init__(self, rates: Sequence[float]) -> None:
        self._prior = tuple(rates)
        self._seen = 0.0
        self.rates = self._prior

    def __call__(self, x: Sequence[float]) -> float:
        """Return what is expected at `x`."""
        return sum([rate * each for rate, each in zip(self.rates, x, strict=True)])

    @property
    def settled(self) -> bool:
        """Whether the rates are more than a few first impressions."""
        return 1.0 / (1.0 + self._seen) <= GAIN

    def learn(self, x: Sequence[float], y: float) -> None:
        """Take in that `y` was measured at `x`; none is negative, and not all x are 0."""
        parts = [rate * each for rate, each in zip(self.rates, x, strict=True)]
        expected = sum(parts)
        ratio = min(max(y / expected, 1.0 / BOLD), BOLD)
        self._seen += 1.0
        gain = 1.0 / (1.0 + self._seen)
        if gain > GAIN:
            # How fast the hardware is, before what it is fast at.
            moves = [gain * math.log(ratio) * (part > 0) for part in parts]
        else:
            step = GAIN * math.log(ratio) * expected / sum([part * part for part in parts])
            moves = [step * part for part in parts]
        self.rates = tuple(
            [
                min(max(rate * math.exp(move), prior / FURTHEST), prior * FURTHEST)
                for rate, move, prior in zip(self.rates, moves, self._prior, strict=True)
            ]
        )
