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

    The first measurements move all rates alike but the first, which is no matter of how fast the hardware is; then it
    is the normalised least-mean-squares rule of Widrow and Hoff on logarithms.
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
        self._seen += 1.0
        gain = 1.0 / (1.0 + self._seen)
        moves = _scaled(parts, y, gain) if gain > GAIN else _blamed(parts, y)
        self.rates = tuple(
            [
                min(max(rate * math.exp(move), prior / FURTHEST), prior * FURTHEST)
                for rate, move, prior in zip(self.rates, moves, self._prior, strict=True)
            ]
        )


def _scaled(parts: Sequence[float], y: float, gain: float) -> list[float]:
    """Return the moves that find how fast the hardware is, before what it is fast at."""
    constant, *rest = parts
    variable = sum(rest)
    if not variable:
        return [0.0] * len(parts)
    move = gain * _off(y - constant, variable)
    return [0.0, *[move * (part > 0) for part in rest]]


def _blamed(parts: Sequence[float], y: float) -> list[float]:
    """Return the moves that give each rate the blame by its share."""
    expected = sum(parts)
    step = GAIN * _off(y, expected) * expected / sum([part * part for part in parts])
    return [step * part for part in parts]


def _off(y: float, expected: float) -> float:
    """Return by how much `y` is off, as a logarithm and within `BOLD`."""
    return math.log(min(max(y / expected, 1.0 / BOLD), BOLD))
