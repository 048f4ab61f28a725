"""How many times slower one server is than its pool, from measurements that disagree and grow old."""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.epp.cost.terms import BOLD

DOUBT = 8.0
"""Measurements that the belief "as fast as the others" is worth: so many of a slow server move half of the way."""
MOST = 33.0
"""No more count, so that each new one always is 2 or 3 % of the truth."""
HALF_LIFE = 30.0
"""Seconds in which measurements lose half of their weight: a server that was avoided is tried again."""
ALIKE = 0.04
"""Natural logarithm: what looks some per cent faster or slower is mostly chance, and must not draw everybody in a pool
that is idle; what is off by several times as much counts nearly in full."""
DEVIATIONS = 2.0
"""Of the mean: what measurements that disagree by so much may show by chance besides."""
USUAL_VARIANCE = 0.01
"""Of one measurement, in logarithms: some 10 % off, as those of modelled engines. A busy machine's are 40 %."""
VARIANCE_GAIN = 0.05
"""Share of the way to a new measurement's square: the last twenty or so count."""
BOUND = math.log(16)
"""A server counts as at most so many times slower or faster than the pool."""
LOG_BOLD = math.log(BOLD)


@dataclass(slots=True)
class Factor:
    """A mean of logarithms, with `DOUBT` measurements more that say 0."""

    log: float = 0.0
    weight: float = 0.0
    """Measurements that it rests on."""
    variance: float = USUAL_VARIANCE
    """Of one measurement."""

    @property
    def value(self) -> float:
        """The factor to reckon with: above 1 is slower."""
        log = self.log
        chance = ALIKE**2 + DEVIATIONS**2 * self.variance / (self.weight + DOUBT)
        return math.exp(log**3 / (log**2 + chance))

    def learn(self, ratio: float, weight: float) -> None:
        """Take in that the server took `ratio` times what the pool would; `weight` is 1 or less.

        A measurement counts as at most `BOLD` times off what was believed.
        """
        self.weight = min(self.weight + weight, MOST)
        error = min(max(math.log(max(ratio, 1e-9)) - self.log, -LOG_BOLD), LOG_BOLD)
        self.variance += VARIANCE_GAIN * weight * (error * error - self.variance)
        self.log += weight / (self.weight + DOUBT) * error
        self.log = min(max(self.log, -BOUND), BOUND)

    def age(self, seconds: float) -> None:
        """Let what is known lose weight against the doubt."""
        keep = 0.5 ** (seconds / HALF_LIFE)
        self.log *= keep * (self.weight + DOUBT) / (keep * self.weight + DOUBT)
        self.weight *= keep
