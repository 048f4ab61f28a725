"""How much each fleet takes: the loads of all comparisons are shares of it. Run again when engines or workloads change.

    python -m bench.routing.capacity            # writes bench/routing/capacity.json

Capacity is the highest rate at which nine in ten requests are still answered within the workload's objectives (the
"goodput" of DistServe, OSDI '24) and answers leave nearly as fast as they are asked for, by round robin and by the
oracle. It is bracketed by factors of 1.25 and then halved until it is known to 12 %, on a seed that no comparison uses.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import click
import msgspec

from bench.routing.cells import CAPACITY, Capacity, Cell, capacities, run
from bench.routing.workloads import WORKLOADS

ATTAINED = 0.9
"""Share of the requests within the objectives."""
KEEPING_UP = 0.85
"""Requests that end over those that come. Runs are short: the objectives alone would be met while the queue grows."""
SEED = 901
FACTOR, PRECISION = 1.25, 1.12
FIRST_GUESS = 40.0
"""Requests per second, where no older result is known."""


def sustained(workload: str, policy: str, guess: float) -> float:
    """Return the capacity of `workload` under `policy`, in requests per second."""
    low, high, rate = 0.0, float("inf"), guess
    while high > low * PRECISION:
        if _attained(workload, policy, rate):
            low = rate
        else:
            high = rate
        rate = low * FACTOR if high == float("inf") else high / FACTOR if low == 0.0 else (low * high) ** 0.5
    return round(low, 3)


def _attained(workload: str, policy: str, rate: float) -> bool:
    row = run(Cell(workload, "capacity", rate, policy, SEED)).row
    return row.goodput >= ATTAINED and row.keeping_up >= KEEPING_UP


@click.command()
@click.option(
    "--workloads", default=",".join(WORKLOADS), show_default=True, help="Measure these, keep the others."
)
@click.option("--jobs", default=2, show_default=True, help="Processes.")
def main(workloads: str, jobs: int) -> None:
    """Measure capacities and keep them."""
    before = capacities() if CAPACITY.is_file() else {}
    with ProcessPoolExecutor(jobs) as pool:
        found = {}
        for name in workloads.split(","):
            old = before.get(name, Capacity(FIRST_GUESS, FIRST_GUESS))
            found[name] = [
                pool.submit(sustained, name, "round-robin", old.round_robin),
                pool.submit(sustained, name, "oracle", old.oracle),
            ]
        for name, futures in found.items():
            _keep(name, Capacity(*(future.result() for future in futures)))


def _keep(name: str, capacity: Capacity) -> None:
    print(
        f"{name}: {capacity.round_robin} requests/s by round robin, {capacity.oracle} by the oracle",
        flush=True,
    )
    kept = {**(capacities() if CAPACITY.is_file() else {}), name: capacity}
    CAPACITY.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")


if __name__ == "__main__":
    main()
