"""How long a piece of code takes, on a machine that does other things too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

SLICE_SECONDS = (
    0.02  # one measurement: long against the clock's resolution, short against a neighbour's time slice
)
ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Case:
    """Something to time."""

    part: str
    what: str
    run: Callable[[], object]
    units: int = 1
    """How often one run does what the figure is about."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds of CPU time for one unit of a case."""

    part: str
    what: str
    best_us: float
    """The quickest round: nearest to what the code costs alone."""
    median_us: float


def measure(cases: Iterable[Case], report: Callable[[str], None]) -> list[Timing]:
    """Time all cases in turns, so that what else the machine does hits them alike."""
    loops = {case: _loops(case) for case in cases}
    rounds: dict[Case, list[float]] = {case: [] for case in loops}
    for number in range(ROUNDS):
        report(f"round {number + 1} of {ROUNDS}")
        for case, count in loops.items():
            rounds[case].append(_seconds(case, count) / count / case.units)
    return [
        Timing(case.part, case.what, round(1e6 * min(times), 3), round(1e6 * statistics.median(times), 3))
        for case, times in rounds.items()
    ]


def _loops(case: Case) -> int:
    """Return how many runs fill a slice."""
    count = 1
    while (seconds := _seconds(case, count)) < SLICE_SECONDS / 4:
        count *= 4
    return max(1, round(count * SLICE_SECONDS / seconds))


def _seconds(case: Case, count: int) -> float:
    run = case.run
    start = time.process_time()
    for _ in range(count):
        run()
    return time.process_time() - start
