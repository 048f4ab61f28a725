"""The figures of `bench.overhead` and the tables made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.chain.rows import NOOP, ROWS

Found = dict[tuple[str, str, int], "Figure"]

ALONE, CHAIN = ROWS[0].title, ROWS[-1].title


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Percentiles:
        """Nearest rank, so each is a time that really was measured."""
        ordered = sorted(seconds)
        rank = [round(1000 * ordered[min(len(ordered) * q // 100, len(ordered) - 1)], 3) for q in (50, 99)]
        return cls(*rank)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table under one load."""

    row: str
    workload: str
    concurrency: int
    requests: int
    requests_per_second: float
    latency_ms: Percentiles
    """Of a stream until the first event, otherwise until the last byte."""
    quietest_p50_ms: float
    """The lowest p50 of a round: what is left when the machine does little else."""
    total_ms: Percentiles
    """Until the last byte."""
    cpu_us: dict[str, float]
    """CPU time per request of each process on the path, less what the process uses when idle."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A whole run."""

    machine: dict[str, str | int]
    rounds: int
    idle_cpu_percent: dict[str, float]
    """Of one core, for each process without requests."""
    rows: list[Figure]


LATENCY = (
    "Latency in ms, p50 / p99. The first row is absolute, the others are what they add to it. For streams until the "
    "first event, otherwise until the last byte."
)
QUIETEST = "The p50 of each row's quietest round, likewise."
CPU = "CPU time per request in µs."


def tables(figures: Figures) -> str:
    """Return the run as Markdown."""
    columns = list(dict.fromkeys((figure.workload, figure.concurrency) for figure in figures.rows))
    found = {(figure.row, figure.workload, figure.concurrency): figure for figure in figures.rows}

    def table(title: str, rows: Iterable[tuple[str, list[str]]]) -> list[str]:
        head = ["", *(f"{workload}, {concurrency} at once" for workload, concurrency in columns)]
        lines = [head, ["---", *("---:" for _ in columns)], *([name, *cells] for name, cells in rows)]
        return [title, "", *(f"| {' | '.join(line)} |" for line in lines), ""]

    latency = ((row.title, [_latency(found, row.title, *at) for at in columns]) for row in ROWS)
    quietest = ((row.title, [_quietest(found, row.title, *at) for at in columns]) for row in ROWS)
    rates = (
        (row.title, [f"{found[row.title, *at].requests_per_second:.0f}" for at in columns]) for row in ROWS
    )
    cpu = (
        (title, [f"{found[row, *at].cpu_us[process]:.0f}" for at in columns])
        for title, row, process in _processes()
    )
    versions = "; ".join(f"{key} {value}" for key, value in figures.machine.items())
    return "\n".join(
        [
            *table(LATENCY, latency),
            *table(QUIETEST, quietest),
            *table("Requests per second.", rates),
            *table(CPU, cpu),
            f"{versions}.",
        ]
    )


def _processes() -> list[tuple[str, str, str]]:
    return [
        ("Envoy alone", ALONE, "envoy"),
        ("Envoy, one no-op ext_proc", ROWS[1].title, "envoy"),
        ("the no-op ext_proc", ROWS[1].title, NOOP),
        ("Envoy, full chain", CHAIN, "envoy"),
        ("BBR", CHAIN, "bbr"),
        ("safety", CHAIN, "safety"),
        ("EPP", CHAIN, "epp"),
    ]


def _latency(found: Found, row: str, workload: str, concurrency: int) -> str:
    mine, alone = (found[title, workload, concurrency].latency_ms for title in (row, ALONE))
    if row == ALONE:
        return f"{mine.p50:.2f} / {mine.p99:.2f}"
    return f"{mine.p50 - alone.p50:+.2f} / {mine.p99 - alone.p99:+.2f}"


def _quietest(found: Found, row: str, workload: str, concurrency: int) -> str:
    mine, alone = (found[title, workload, concurrency].quietest_p50_ms for title in (row, ALONE))
    return f"{mine:.2f}" if row == ALONE else f"{mine - alone:+.2f}"
