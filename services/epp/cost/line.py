"""A straight line through what was measured lately, that starts as a prior and never loses its shape for lack of news."""

from __future__ import annotations

FORGET = 0.99
"""Share of its weight that a measurement keeps when the next one comes: the last hundred or so count."""
FIRM = 3.0
"""Measurements that the prior's proportion of intercept and slope is worth: it holds while all x are alike."""
FURTHEST = 10_000.0
"""From the prior, as a factor: what is measured as nothing must not become nothing."""
BOLD = 4.0
"""A measurement counts as at most so many times more or less than expected: one hiccup moves little, a new truth is
reached in a few steps."""


class Line:
    """y = at_zero + slope · x, fitted by relative errors, so that short and long requests count alike.

    Weighted least squares with forgetting. The prior gives the proportion of the two, not their size: it is scaled to
    what was measured, then worth `FIRM` measurements.
    """

    __slots__ = ("_prior", "_sums", "at_zero", "slope")

    def __init__(self, at_zero: float, slope: float) -> None:
        self._prior = (at_zero, slope)
        self.at_zero, self.slope = at_zero, slope
        self._sums: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)

    def __call__(self, x: float) -> float:
        """Return what is expected at `x`."""
        return self.at_zero + self.slope * x

    def learn(self, x: float, y: float, share: float = 1.0) -> None:
        """Take in that `y` was measured at `x`; neither is negative. `share`: how much of a measurement it is."""
        expected = self(x)
        y = min(max(y, expected / BOLD), expected * BOLD)
        w = share / (expected * expected)
        new = (w, w * x, w * x * x, w * y, w * x * y)
        keep = 1.0 - (1.0 - FORGET) * share
        self._sums = tuple([keep * was + now for was, now in zip(self._sums, new, strict=True)])
        self._fit()

    def _fit(self) -> None:
        w, wx, wxx, wy, wxy = self._sums
        at_zero, slope = self._prior
        # The prior, scaled to the measurements' mean, as two points around their mean x.
        mean = wx / w
        scale = wy / (at_zero * w + slope * wx)
        firm = FIRM * w * (1.0 - FORGET)
        for x in (0.0, 2.0 * mean):
            y = scale * (at_zero + slope * x)
            w, wx, wxx, wy, wxy = (
                w + firm,
                wx + firm * x,
                wxx + firm * x * x,
                wy + firm * y,
                wxy + firm * x * y,
            )
        spread = w * wxx - wx * wx
        slope = (w * wxy - wx * wy) / spread if spread > 0 else scale * slope
        # A tenth of the proportional line is the least for either: noise must not make work look free.
        self.slope = _within(max(slope, 0.1 * scale * self._prior[1]), self._prior[1])
        self.at_zero = _within(max((wy - self.slope * wx) / w, 0.1 * scale * self._prior[0]), self._prior[0])


def _within(value: float, prior: float) -> float:
    return min(max(value, prior / FURTHEST), prior * FURTHEST)
