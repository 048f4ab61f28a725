"""`python bench/replicas/skewed.py SECONDS ARGUMENT…`: the EPP on a machine whose clocks are off by so much.

Both of Python's clocks are moved before anything else is imported; the loop's timers, which only measure, are not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def moved(clock: Callable[[], float], by: float) -> Callable[[], float]:
    """Return `clock` as another machine has it."""
    return lambda: clock() + by


if __name__ == "__main__":
    seconds = float(sys.argv.pop(1))
    time.time = moved(time.time, seconds)
    time.monotonic = moved(time.monotonic, 10_000.0 + seconds)

    from services.epp.app import main

    main()
