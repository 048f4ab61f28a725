"""CPU time of other processes, exact to the nanosecond where /proc/PID/stat counts in hundredths of a second."""

from __future__ import annotations

import time
from collections.abc import Mapping

_SCHED = 2  # CPUCLOCK_SCHED of the kernel's posix-timers: user and system time of all threads


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that the process has used. Raises `OSError` when there is no such process."""
    return time.clock_gettime((~pid << 3) | _SCHED)


def reading(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU seconds of each named process."""
    return {name: cpu_seconds(pid) for name, pid in pids.items()}
