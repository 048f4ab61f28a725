"""The Wilson score interval: what a share of few samples is worth."""

from __future__ import annotations

import math

Z = 1.959963984540054  # of the standard normal distribution: 95 % lie within


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of the share `hits` of `total` (E. B. Wilson, JASA 22, 1927); (0, 1) of nothing."""
    if not total:
        return 0.0, 1.0
    share, spread = hits / total, Z * Z / total
    middle = share + spread / 2
    reach = Z * math.sqrt(share * (1 - share) / total + spread / total / 4)
    return max(0.0, (middle - reach) / (1 + spread)), min(1.0, (middle + reach) / (1 + spread))
