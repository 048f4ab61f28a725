"""Where a policy stands: best or within 2 % of the best that is no oracle, by metric and cell."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.routing.cells import Result
from bench.routing.measure import Row
from bench.routing.policies import DEFAULT, ORACLE
from bench.routing.workloads import WORKLOADS

WITHIN = 0.02
LOWER = ("ttft_p50", "ttft_p90", "ttft_p99", "tpot_p50", "tpot_p90", "tpot_p99", "e2e_mean")
HIGHER = ("throughput", "goodput")
"""What is compared; hits and imbalance are means to these ends."""

Key = tuple[str, str, str]
"""Workload, load and policy."""
Table = Mapping[Key, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Loss:
    """One metric of one cell in which another policy is more than 2 % better."""

    workload: str
    load: str
    metric: str
    value: float
    best: float
    by: str
    seeds: tuple[float, ...]
    """How far behind the same policy on each seed; negative where it is ahead."""
    pays: float
    """The better policy's mean time of a request, against the loser's: well above 1 it is better at this metric alone."""

    @property
    def behind(self) -> float:
        """How much worse, as a share of the better value; infinite where that is 0."""
        return abs(_behind(self.metric, self.value, self.best))

    @property
    def clear(self) -> bool:
        """Whether every one of several seeds says so: a p99 of one seed moves by tens of per cent."""
        return len(self.seeds) > 1 and min(self.seeds) > WITHIN


@dataclass(frozen=True, slots=True)
class Promise:
    """One thing that the default profile is meant to hold, and whether it does."""

    text: str
    workload: str
    load: str
    value: float
    bound: float
    holds: bool


def by_seed(results: Iterable[Result]) -> dict[Key, list[Row]]:
    """Return the rows of every cell and policy, in the order of their seeds."""
    rows: dict[Key, list[Row]] = {}
    for result in sorted(results, key=lambda result: result.cell.seed):
        cell = result.cell
        rows.setdefault((cell.workload, cell.load, cell.policy), []).append(result.row)
    return rows


def means(results: Sequence[Result]) -> dict[Key, dict[str, float]]:
    """Return the mean over the seeds of every number of a row, in the order of the results."""
    rows = by_seed(results)
    names = [name for name in Row.__struct_fields__ if name != "shed"]
    order = dict.fromkeys((one.cell.workload, one.cell.load, one.cell.policy) for one in results)
    return {
        key: {name: statistics.fmean(getattr(row, name) for row in rows[key]) for name in names}
        for key in order
    }


def losses(results: Sequence[Result], policy: str = DEFAULT) -> list[Loss]:
    """Return every metric in which `policy` is not best or within 2 % of the others but the oracle, worst first."""
    table, rows = means(results), by_seed(results)
    found = []
    for workload, load in dict.fromkeys(key[:2] for key in table):
        mine = table[workload, load, policy]
        others = {
            other: row
            for (at, point, other), row in table.items()
            if (at, point) == (workload, load) and other not in (policy, ORACLE)
        }
        for metric in (*LOWER, *HIGHER) if others else ():
            by, best = _best(others, metric)
            if _worse(mine[metric], best, metric):
                pairs = zip(rows[workload, load, policy], rows[workload, load, by], strict=True)
                seeds = tuple(_behind(metric, getattr(me, metric), getattr(it, metric)) for me, it in pairs)
                pays = others[by]["e2e_mean"] / mine["e2e_mean"]
                found.append(Loss(workload, load, metric, mine[metric], best, by, seeds, pays))
    return sorted(found, key=lambda loss: -loss.behind)


def hindsight(results: Sequence[Result], among: Iterable[str]) -> int:
    """Return the figures won by using, in each cell, the one policy of `among` that wins most of them there."""
    lost = [Counter((loss.workload, loss.load) for loss in losses(results, policy)) for policy in among]
    won = len((*LOWER, *HIGHER))
    return sum(won - min(by_cell[cell] for by_cell in lost) for cell in cells_of(means(results)))


def _best(rows: Mapping[str, Mapping[str, float]], metric: str) -> tuple[str, float]:
    better = min if metric in LOWER else max
    by = better(rows, key=lambda policy: rows[policy][metric])
    return by, rows[by][metric]


def _behind(metric: str, value: float, best: float) -> float:
    if not best:
        return math.inf if value != best else 0.0
    return (value - best if metric in LOWER else best - value) / best


def _worse(value: float, best: float, metric: str) -> bool:
    return value > best * (1 + WITHIN) if metric in LOWER else value < best * (1 - WITHIN)


def promises(table: Table) -> list[Promise]:
    """Return the further aims: hits near the oracle's, half of round robin's wait, no harm without sharing, slow servers."""
    found = []
    for workload, load in dict.fromkeys(key[:2] for key in table):
        rows = {policy: row for (at, point, policy), row in table.items() if (at, point) == (workload, load)}
        mine = rows[DEFAULT]
        if WORKLOADS[workload].shares:
            floor = 0.9 * rows[ORACLE]["hits"]
            found.append(_atleast("hits at least 0.9 of the oracle's", workload, load, mine["hits"], floor))
        if WORKLOADS[workload].shares and load == "near":
            half = 0.5 * rows["round-robin"]["ttft_p90"]
            found.append(
                _atmost("TTFT p90 at most half of round robin's", workload, load, mine["ttft_p90"], half)
            )
        if not WORKLOADS[workload].shares:
            least = (1 + WITHIN) * rows["least-request"]["e2e_mean"]
            found.append(_atmost("no slower than least request", workload, load, mine["e2e_mean"], least))
        whole = table.get(("tenants", load, DEFAULT))
        if workload == "half-speed" and whole is not None:
            found += [
                _atmost(
                    f"{name} within 1.3 of the fleet without a slow server",
                    workload,
                    load,
                    mine[name],
                    1.3 * whole[name],
                )
                for name in ("ttft_p99", "tpot_p99")
            ]
    return found


def _atleast(text: str, workload: str, load: str, value: float, bound: float) -> Promise:
    return Promise(text, workload, load, value, bound, value >= bound)


def _atmost(text: str, workload: str, load: str, value: float, bound: float) -> Promise:
    return Promise(text, workload, load, value, bound, value <= bound)


def cells_of(table: Table) -> Sequence[tuple[str, str]]:
    """Return workloads and loads in the order of the results."""
    return list(dict.fromkeys(key[:2] for key in table))
