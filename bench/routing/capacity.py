"""How much each fleet takes: the loads of all comparisons are shares of it. Run again when engines or workloads change.

    python -m bench.routing.capacity            # writes bench/routing/capacity.json

Capacity is the highest rate at which nine in ten requests are still answered within the workload's objectives (the
"goodput" of DistServe, OSDI '24), by round robin and by the oracle. It is bracketed by factors of 1.5 and then halved
until it is known to 4 %, each rate played on seeds that no comparison uses.
"""

from __future__ import annotations

import statistics
from concurrent.futures import ProcessPoolExecutor

import click
import msgspec

from bench.routing.cells import CAPACITY, Capacity, Cell, capacities, run
from bench.routing.workloads import WORKLOADS

ATTAINED = 0.9
SEEDS = (901, 902)
FACTOR, PRECISION = 1.5, 1.04
FIRST_GUESS = 5.0
"""Requests per second and server."""


def sustained(workload: str, policy: str) -> float:
    """Return the capacity of `workload` under `policy`, in requests per second."""
    low, high = 0.0, float("inf")
    rate = FIRST_GUESS * WORKLOADS[workload].fleet.servers
    while high > low * PRECISION:
        if _attained(workload, policy, rate):
            low = rate
        else:
            high = rate
        rate = low * FACTOR if high == float("inf") else high / FACTOR if low == 0.0 else (low * high) ** 0.5
    return round(low, 3)


def _attained(workload: str, policy: str, rate: float) -> bool:
    cells = [Cell(workload, "capacity", rate, policy, seed) for seed in SEEDS]
    return statistics.fmean(run(cell, {}).row.goodput for cell in cells) >= ATTAINED


@click.command()
@click.option(
    "--workloads", default=",".join(WORKLOADS), show_default=True, help="Measure these, keep the others."
)
@click.option("--jobs", default=2, show_default=True, help="Processes.")
def main(workloads: str, jobs: int) -> None:
    """Measure capacities and keep them."""
    kept = capacities() if CAPACITY.is_file() else {}
    names = workloads.split(",")
    with ProcessPoolExecutor(jobs) as pool:
        found = {
            (name, who): pool.submit(sustained, name, who)
            for name in names
            for who in ("round-robin", "oracle")
        }
        for name in names:
            kept[name] = Capacity(*(found[name, who].result() for who in ("round-robin", "oracle")))
            print(
                f"{name}: {kept[name].round_robin} requests/s by round robin, {kept[name].oracle} by the oracle"
            )
            CAPACITY.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")


if __name__ == "__main__":
    main()
