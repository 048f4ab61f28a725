"""Routing policies compared in virtual time, in seconds: the real director and pool in front of modelled engines.

    python -m bench.routing_quick --seeds 1,2 --workloads shared,bursts --loads 0.6,0.9 --policies cost,weighted

The picker sees what it sees in production: metrics as old as their scrape, the ends of requests a few milliseconds
late, no usage, and sizes in bytes. Engines are `tools.model_server.engine`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import click

from bench.routing_quick.workloads import WORKLOADS, arrivals_of
from bench.routing_quick.world import Outcome, World
from tools.model_server.constants import LLAMA_8B_H100


@dataclass(frozen=True, slots=True)
class Row:
    """What one run came to."""

    ttft50: float
    ttft90: float
    ttft99: float
    tpot50: float
    tpot99: float
    e2e50: float
    e2e99: float
    hits: float
    imbalance: float
    mean: float


def measure(outcomes: Sequence[Outcome], servers: int) -> Row:
    """Sum up one run."""
    # The first fifth warms caches and rates.
    outcomes = sorted(outcomes, key=lambda o: o.started)[len(outcomes) // 5 :]
    ttft = sorted(o.ttft for o in outcomes)
    tpot = sorted((o.seconds - o.ttft) / max(1, o.output - 1) for o in outcomes if o.output > 8)
    e2e = sorted(o.seconds for o in outcomes)
    by = Counter(o.server for o in outcomes)
    return Row(
        _q(ttft, 0.5), _q(ttft, 0.9), _q(ttft, 0.99), _q(tpot, 0.5), _q(tpot, 0.99), _q(e2e, 0.5), _q(e2e, 0.99),
        sum(o.cached for o in outcomes) / sum(o.prompt for o in outcomes),
        max(by.values()) * servers / len(outcomes),
        statistics.fmean(e2e),
    )  # fmt: skip


def _q(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


def run(
    workload: str, policy: str, load: float, seed: int, servers: int, parameters: dict[str, object]
) -> Row:
    """Play one workload under one policy."""
    profiles = [LLAMA_8B_H100] * servers
    if workload == "half-speed":
        profiles[0] = LLAMA_8B_H100.scaled(0.5)
    world = World(policy, profiles, seed, parameters)
    return measure(world.run(arrivals_of(workload, seed, servers, load)), servers)


HEAD = "workload     load policy        ttft50  ttft90  ttft99  tpot50  tpot99  e2e50  e2e99   mean   hits  imbal   wall"


@click.command()
@click.option("--seeds", default="1")
@click.option("--workloads", default=",".join(WORKLOADS))
@click.option("--loads", default="0.5,0.9")
@click.option("--policies", default="rr,least,reference,weighted,cost")
@click.option("--servers", default=8)
@click.option("--set", "settings", multiple=True, help="parameter=value of cost-scorer")
def main(
    seeds: str, workloads: str, loads: str, policies: str, servers: int, settings: Sequence[str]
) -> None:
    """Print a table; times are in milliseconds, means over the seeds."""
    parameters: dict[str, object] = {k: float(v) for k, _, v in (s.partition("=") for s in settings)}
    print(HEAD)
    for workload in workloads.split(","):
        for load in map(float, loads.split(",")):
            for policy in policies.split(","):
                began = time.perf_counter()
                rows = [
                    run(workload, policy, load, int(seed), servers, parameters) for seed in seeds.split(",")
                ]
                mean = [statistics.fmean(getattr(row, name) for row in rows) for name in Row.__slots__]
                t50, t90, t99, p50, p99, e50, e99, hits, imbalance, e = mean
                print(
                    f"{workload:12} {load:4} {policy:11} {t50 * 1e3:8.0f}{t90 * 1e3:8.0f}{t99 * 1e3:8.0f}"
                    f"{p50 * 1e3:8.1f}{p99 * 1e3:8.1f}{e50:7.2f}{e99:7.1f}{e:7.2f}{hits:7.1%}{imbalance:7.2f}"
                    f"{time.perf_counter() - began:7.1f}"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
