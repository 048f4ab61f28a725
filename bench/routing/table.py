"""Results as text for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.routing.cells import Result
from bench.routing.measure import Row

HEAD = (
    f"{'workload':13}{'load':6}{'rate/s':>8} {'policy':14}{'ttft50':>8}{'ttft90':>8}{'ttft99':>8}"
    f"{'tpot50':>8}{'tpot90':>8}{'tpot99':>8}{'mean e2e':>10}{'tok/s':>8}{'good':>7}{'hits':>7}{'ideal':>7}{'imbal':>6}  shed"
)


def text_table(results: Sequence[Result]) -> str:
    """Return one line for each workload, load and policy: means over the seeds, times in milliseconds."""
    groups: dict[tuple[str, str, float, str], list[Row]] = {}
    for result in results:
        cell = result.cell
        groups.setdefault((cell.workload, cell.load, cell.rate, cell.policy), []).append(result.row)
    return "\n".join([HEAD, *(_line(*name, rows) for name, rows in groups.items())])


def _line(workload: str, load: str, rate: float, policy: str, rows: Sequence[Row]) -> str:
    def mean(name: str) -> float:
        return statistics.fmean(getattr(row, name) for row in rows)

    times = "".join(f"{mean(f'ttft_p{p}'):8.0f}" for p in (50, 90, 99))
    steps = "".join(f"{mean(f'tpot_p{p}'):8.1f}" for p in (50, 90, 99))
    shed = " ".join(f"{name} {share:.0%}" for name, share in rows[0].shed.items() if share)
    return (
        f"{workload:13}{load:6}{rate:8.2f} {policy:14}{times}{steps}{mean('e2e_mean'):10.0f}{mean('throughput'):8.0f}"
        f"{mean('goodput'):7.1%}{mean('hits'):7.1%}{mean('ideal_hits'):7.1%}{mean('imbalance'):6.2f}  {shed}"
    )
