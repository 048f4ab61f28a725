"""A sum of positive terms, whose rates are learnt from totals."""

from __future__ import annotations

import math
from collections.abc import Sequence

SPEED = 9.0
"""Variance of the logarithm of how fast the hardware is, against the prior's: twenty times is one standard deviation."""
SHAPE = 0.5
"""Variance of each rate's logarithm besides: what the hardware is fast at may be twice the prior, or half."""
NOISE = 0.15
"""Variance of a measurement's logarithm: half more or a third less is usual, as much is left out of the sum."""
FADE = 3e-4
"""Share of the way back to the prior's doubt for each measurement, so that in the long run the last thirty or so count."""
SURPRISE = 3.0
"""A measurement counts as at most so many standard deviations off: one hiccup moves little, a new truth is reached in a
few steps."""
FURTHEST = 10_000.0
"""From the prior, as a factor: what is measured as nothing must not become nothing."""
SETTLED = 20
"""Measurements after which the rates are more than a few first impressions."""


class Terms:
    """y = sum of rate · x, with the rates' logarithms learnt by Kalman's filter, made linear at what is believed.

    Logarithms keep rates positive, and short and long requests count alike. All rates but the first, which is no matter
    of how fast the hardware is, share its speed, so that the first measurements find this and later ones the rest.
    """

    __slots__ = ("_covariance", "_prior", "_seen", "rates")

    def __init__(self, rates: Sequence[float]) -> None:
        self._prior = tuple(rates)
        self._seen = 0
        size = range(len(rates))
        self._covariance = [
            [SPEED * (row > 0 and column > 0) + SHAPE * (row == column) for column in size] for row in size
        ]
        self.rates = self._prior

    def __call__(self, x: Sequence[float]) -> float:
        """Return what is expected at `x`."""
        return sum([rate * each for rate, each in zip(self.rates, x, strict=True)])

    @property
    def settled(self) -> bool:
        """Whether the rates are more than a few first impressions."""
        return self._seen >= SETTLED

    def learn(self, x: Sequence[float], y: float) -> None:
        """Take in that `y` was measured at `x`; none is negative, and not all x are 0."""
        self._seen += 1
        parts = [rate * each for rate, each in zip(self.rates, x, strict=True)]
        expected = sum(parts)
        slopes = [part / expected for part in parts]
        spread = [_dot(row, slopes) for row in self._covariance]
        variance = _dot(spread, slopes) + NOISE
        most = SURPRISE * math.sqrt(variance)
        off = min(max(math.log(max(y / expected, 1e-9)), -most), most)
        gains = [each / variance for each in spread]
        self.rates = tuple(
            [
                min(max(rate * math.exp(gain * off), prior / FURTHEST), prior * FURTHEST)
                for rate, gain, prior in zip(self.rates, gains, self._prior, strict=True)
            ]
        )
        keep = 1.0 - FADE
        self._covariance = [
            [keep * (known - gain * each) for known, each in zip(row, spread, strict=True)]
            for row, gain in zip(self._covariance, gains, strict=True)
        ]
        for position, row in enumerate(self._covariance):
            row[position] += FADE * SHAPE


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum([x * y for x, y in zip(a, b, strict=True)])
