"""The same load on 1, 2, 4 and 8 replicas, which share their state or know what passed through themselves alone."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.replicas import readings, stack, traffic
from bench.replicas.readings import Buckets, RedisUse
from bench.replicas.stack import Setup
from tools.workload.requests import TimedRequest

SHARED, ALONE = "shared", "alone"


@dataclass(frozen=True, slots=True)
class Row:
    """One load on one number of replicas."""

    load: str
    replicas: int
    shared: bool
    requests: int
    failed: int
    seconds: float
    hit_rate: float
    """By the servers' own counts."""
    busiest_requests: float
    """Requests of the server that got most, over the mean."""
    busiest_work: float
    """Seconds of computing likewise: prompts not cached, tokens generated."""
    first_p50: float
    """Seconds to the first event."""
    first_p99: float
    pick_p50: float
    """Seconds of the pick, as Envoy saw it."""
    pick_p99: float
    visible_p50: float | None
    """Seconds from news until other replicas can read them."""
    visible_p99: float | None
    redis: RedisUse | None
    """Over the run."""
    busy: float
    """Share of all cores' time that was used, by whomever."""


async def measure(setup: Setup, load: str, requests: Sequence[TimedRequest], folder: Path) -> Row:
    """Play `requests` on a stack of its own."""
    async with stack.running(setup, folder) as running, traffic.client() as http:
        before = await readings.redis_use(running)
        began = readings.machine_time()
        samples = await traffic.play(requests, running.gateway)
        busy = readings.busy_share(began)
        after = await readings.redis_use(running)
        pages = [text for text in (await readings.pages(http, running)).values() if text]
        servers = await readings.fleet(http, running)
        picks = [took for _, took in traffic.picks(running.access_log)]
    prompt = sum(server.prompt_tokens for server in servers)
    visible = Buckets.of(pages, "epp_state_visible_seconds") if setup.shared else None
    first = [sample.first for sample in samples if not sample.failed]
    return Row(
        load=load,
        replicas=setup.replicas,
        shared=setup.shared,
        requests=len(samples),
        failed=sum(sample.failed for sample in samples),
        seconds=round(max(sample.at for sample in samples), 1),
        hit_rate=round(sum(server.cached_tokens for server in servers) / prompt, 4),
        busiest_requests=round(readings.imbalance([server.requests for server in servers]), 3),
        busiest_work=round(readings.imbalance([server.work for server in servers]), 3),
        first_p50=round(traffic.percentile(first, 0.5), 4),
        first_p99=round(traffic.percentile(first, 0.99), 4),
        pick_p50=round(traffic.percentile(picks, 0.5), 5),
        pick_p99=round(traffic.percentile(picks, 0.99), 5),
        visible_p50=round(visible.quantile(0.5), 4) if visible else None,
        visible_p99=round(visible.quantile(0.99), 4) if visible else None,
        redis=after.since(before) if setup.shared else None,
        busy=busy,
    )


async def table(
    loads: Mapping[str, Sequence[TimedRequest]],
    replicas: Sequence[int],
    base: Setup,
    folder: Path,
    states: Sequence[str],
) -> list[Row]:
    """Measure every load on every number of replicas, in the `states` shared and, from two on, alone."""
    rows = []
    for load, requests in loads.items():
        for count in replicas:
            for shared in [state == SHARED for state in states if count > 1 or state == SHARED]:
                name = f"{load}, {count} replicas, {'shared' if shared else 'alone'}"
                setup = dataclasses.replace(base, replicas=count, shared=shared)
                rows.append(await measure(setup, load, requests, folder))
                row = rows[-1]
                print(
                    f"bench: {name}: hit rate {row.hit_rate:.1%}, busiest {row.busiest_work:.2f}, "
                    f"failed {row.failed} of {row.requests}",
                    file=sys.stderr,
                )
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """Return the table, with each hit rate against that of one replica."""
    head = (
        "load",
        "replicas",
        "state",
        "hit rate",
        "of one replica's",
        "busiest server, requests",
        "work",
        "first token p50, p99 ms",
        "pick p50, p99 ms",
        "visible p50, p99 ms",
        "machine busy",
        "failed",
    )
    one = {row.load: row for row in rows if row.replicas == 1}
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        visible = f"{_ms(row.visible_p50)}, {_ms(row.visible_p99)}" if row.shared else ""
        cells = (
            row.load,
            row.replicas,
            SHARED if row.shared else ALONE,
            f"{row.hit_rate:.1%}",
            f"{row.hit_rate / one[row.load].hit_rate:.3f}" if row.load in one else "",
            f"{row.busiest_requests:.2f}",
            f"{row.busiest_work:.2f}",
            f"{_ms(row.first_p50)}, {_ms(row.first_p99)}",
            f"{_ms(row.pick_p50)}, {_ms(row.pick_p99)}",
            visible,
            f"{row.busy:.0%}",
            row.failed,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, "", *_redis(rows)])


def _redis(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| load | replicas | commands per 1,000 requests | KB in | KB out | stream entries | KB of stream |"
    ]
    lines.append(f"|{'---|' * 7}")
    for row in rows:
        if (use := row.redis) is not None:
            per = row.requests / 1000
            lines.append(
                f"| {row.load} | {row.replicas} | {use.commands / per:.0f} | {use.bytes_in / per / 1e3:.0f} | "
                f"{use.bytes_out / per / 1e3:.0f} | {use.entries} | {use.stream_bytes / 1e3:.0f} |"
            )
    return lines


def _ms(seconds: float | None) -> str:
    return f"{1000 * (seconds or 0.0):.1f}"
