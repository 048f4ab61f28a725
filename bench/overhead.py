"""What the chain adds to Envoy alone: latency, and CPU time of every process on the path. Run by `make bench`.

Each row of the table is an Envoy of its own with the gateway's configuration and fewer filters; services and backend
are shared. All rows take turns within one run, in a new order each round, so that whatever else the machine does
hits them alike. Every prompt is new: no cache of seen text or known prefixes helps.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import msgspec

from bench.chain import client
from bench.chain.cpu import reading
from bench.chain.machine import machine
from bench.chain.report import Figure, Figures, Percentiles, tables
from bench.chain.rows import ROWS, Row
from bench.chain.stack import Stack, running
from bench.chain.workload import Workload

WORKLOADS = tuple(Workload(size, stream) for size in (2_000, 200_000) for stream in (False, True))
CONCURRENCIES = (1, 16)
RESULT = Path(__file__).parent / "results/overhead.json"
IDLE_SECONDS = 3.0
SETTLE_SECONDS = 0.1  # the access log reaches the EPP up to 50 ms after the answer
ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """One row under one load."""

    row: Row
    workload: Workload
    concurrency: int

    @property
    def requests(self) -> int:
        """How many a round sends: enough for the clock, few enough for a table within minutes."""
        if self.workload.stream:
            return 20 if self.concurrency == 1 else 160
        return 100 if self.concurrency == 1 else 240


@dataclass(slots=True)
class Measured:
    """What the rounds of one cell add up to."""

    rounds: list[list[client.Sample]] = field(default_factory=list)
    requests: int = 0
    """With the first one of each connection, whose latency does not count."""
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    """CPU seconds of each process, less what it uses when idle."""


class Measurement:
    """A run: cells measured in turns, over a stack that is up."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.cells = {
            Cell(row, workload, concurrency): Measured()
            for workload, concurrency, row in itertools.product(WORKLOADS, CONCURRENCIES, ROWS)
        }
        self.idle: dict[str, float] = {}
        """CPU seconds per second that each process uses without requests: scraping, health checks."""
        self._requests = {workload: workload.requests() for workload in WORKLOADS}

    def measure_idle(self) -> None:
        """Wait and see what nobody's requests cost."""
        before = reading(self._pids())
        time.sleep(IDLE_SECONDS)
        after = reading(self._pids())
        self.idle = {name: (after[name] - before[name]) / IDLE_SECONDS for name in before}

    def measure(self, cell: Cell) -> None:
        """Send one round of `cell`."""
        pids, total = self.stack.pids(cell.row), self.cells[cell]
        before, start = reading(pids), time.perf_counter()
        total.rounds.append(
            asyncio.run(
                client.run(
                    self.stack.gateways[cell.row.title],
                    self._requests[cell.workload],
                    count=cell.requests,
                    concurrency=cell.concurrency,
                )
            )
        )
        total.seconds += time.perf_counter() - start
        time.sleep(SETTLE_SECONDS)
        elapsed, after = time.perf_counter() - start, reading(pids)
        total.requests += cell.requests + cell.concurrency
        for name in pids:
            idle = self.idle[self._idle_name(name, cell.row)] * elapsed
            total.cpu[name] = total.cpu.get(name, 0.0) + after[name] - before[name] - idle

    def _pids(self) -> dict[str, int]:
        return {**self.stack.services, **{f"envoy {title}": pid for title, pid in self.stack.envoys.items()}}

    @staticmethod
    def _idle_name(name: str, row: Row) -> str:
        return f"envoy {row.title}" if name == "envoy" else name


def turns(cells: list[Cell], rounds: int) -> Iterator[tuple[int, Cell]]:
    """Yield every cell once a round; within a load the rows follow each other, beginning with another each round."""
    for number in range(rounds):
        for start in range(0, len(cells), len(ROWS)):
            rows = cells[start : start + len(ROWS)]
            shift = number % len(ROWS)
            for cell in rows[shift:] + rows[:shift]:
                yield number, cell


def result(measurement: Measurement, rounds: int) -> Figures:
    """Sum up."""
    rows = [_figure(cell, total) for cell, total in measurement.cells.items()]
    idle = {name: round(100 * share, 2) for name, share in measurement.idle.items()}
    return Figures(machine(), rounds, idle, rows)


def _figure(cell: Cell, total: Measured) -> Figure:
    samples = list(itertools.chain.from_iterable(total.rounds))
    quietest = min(Percentiles.of(latency(cell, one)).p50 for one in total.rounds)
    return Figure(
        row=cell.row.title,
        workload=cell.workload.name,
        concurrency=cell.concurrency,
        requests=len(samples),
        requests_per_second=round(total.requests / total.seconds, 1),
        latency_ms=Percentiles.of(latency(cell, samples)),
        quietest_p50_ms=quietest,
        total_ms=Percentiles.of(sample.total for sample in samples),
        cpu_us={name: round(1e6 * used / total.requests, 1) for name, used in total.cpu.items()},
    )


def latency(cell: Cell, samples: Iterable[client.Sample]) -> Iterator[float]:
    """Return the time that a user waits: of a stream for its first event, otherwise for the whole answer."""
    return (sample.first if cell.workload.stream else sample.total for sample in samples)


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="More rounds, less noise.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULT, help="Where the JSON goes.")
def main(rounds: int, output: Path) -> None:
    """Measure what the chain adds to Envoy alone."""
    print("bench: starting the services and five Envoys", file=sys.stderr)
    with running() as stack:
        measurement = Measurement(stack)
        measurement.measure_idle()
        for done, (number, cell) in enumerate(turns(list(measurement.cells), rounds)):
            if not done % len(ROWS):
                load = f"{cell.workload.name} x {cell.concurrency}"
                print(f"bench: round {number + 1} of {rounds}: {load}", file=sys.stderr)
            measurement.measure(cell)
    figures = result(measurement, rounds)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
    print(tables(figures))


if __name__ == "__main__":
    main()
