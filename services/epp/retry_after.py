"""When a refused client should come again: in about as long as it takes until there is room."""

from __future__ import annotations

import math

SOONEST, LATEST = 1, 60
"""Seconds: the header's unit, and a minute after which the estimate is worth nothing."""


def retry_after(*, busy: float, seconds: float, waiting: int, saturation: float) -> int:
    """Return whole seconds until a pool has room for one request more.

    `busy` requests are at its servers and take `seconds` each, so `busy / seconds` end in a second (Little's law).
    `waiting` come first, and of a pool that is more than full, what is too much has to end without a successor.
    """
    excess = busy * (1.0 - 1.0 / saturation) if saturation > 1.0 else 0.0
    wait = (excess + waiting + 1) * seconds / max(1.0, busy)
    return min(max(math.ceil(wait), SOONEST), LATEST)
