"""How a stack under load fares in a fault: what clients, the pickers' metrics and their logs say."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from redis.asyncio import Redis

from bench.replicas import readings, stack, traffic
from bench.replicas.faults import FAULTS, Fault, Stage, between
from bench.replicas.proxy import Proxy
from bench.replicas.stack import Setup, Stack, samples, total
from bench.replicas.traffic import Sample, Streaming
from tools.workload.replay import replay
from tools.workload.requests import TimedRequest

REPLICAS = 3
PATIENCE = 20.0
"""Seconds after which what was waited for is taken not to come."""
LOOK = 0.1
ALIKE = 0.02
"""How much the replicas' counts of known blocks may differ while requests go on."""


@dataclass(frozen=True, slots=True)
class Times:
    """Of a run, in seconds."""

    before: float = 12.0
    during: float = 8.0
    after: float = 60.0

    @property
    def all(self) -> float:
        """The whole run."""
        return self.before + self.during + self.after


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fault. What is compared with the run without a fault is of the same seconds of the same load."""

    fault: str
    requests: int
    failed: int
    hit_rate_during: float
    hit_rate_after: float
    pick_p50_during: float
    """Seconds, as Envoy saw them."""
    pick_p99_during: float
    seen_after: float | None
    """Seconds until every replica that it concerns said so in its metrics; None where there is nothing to see."""
    log_lines: int
    """That say Redis cannot be reached, of all replicas."""
    alike_after: float | None
    """Seconds from the end of the fault until all replicas are there, reach Redis, and know the same; None: not in time."""
    unreadable: int
    """Entries left out, of all replicas."""


async def table(
    base: Setup, times: Times, *, rate: float, seed: int, folder: Path, only: Sequence[str] = ()
) -> list[Outcome]:
    """Go through all faults, or `only` those of these names."""
    requests = traffic.chats(times.all, rate=rate, seed=seed)
    rows = []
    for number, fault in enumerate(fault for fault in FAULTS if not only or fault.name in only):
        setup = dataclasses.replace(base, replicas=REPLICAS, skew=fault.skew)
        rows.append(await weather(fault, setup, requests, times, folder / str(number)))
        print(f"bench: {rows[-1]}", file=sys.stderr)
    return rows


async def weather(
    fault: Fault, setup: Setup, requests: Sequence[TimedRequest], times: Times, folder: Path
) -> Outcome:
    """Run one fault."""
    async with staged(setup, folder) as stage, traffic.client() as http:
        streaming, wall = Streaming(http, stage.stack.gateway), time.time()
        load = asyncio.create_task(replay(requests, streaming))  # noqa: TID251 - awaited below
        await asyncio.sleep(times.before)
        async with between(stage, fault):
            began = streaming.elapsed
            seen = await _wait(http, stage.stack, lambda pages: _seen(pages, fault))
            await asyncio.sleep(times.during - (streaming.elapsed - began))
        alike = await _wait(http, stage.stack, _alike)
        await load
        pages = await readings.pages(http, stage.stack)
        return _outcome(fault, stage.stack, streaming.samples, times, wall, pages, seen, alike)


@contextlib.asynccontextmanager
async def staged(setup: Setup, folder: Path) -> AsyncIterator[Stage]:
    """Run a stack whose replicas reach Redis through a proxy each."""
    async with contextlib.AsyncExitStack() as cleanup:
        proxies = {name: Proxy(stack.REDIS + setup.port_offset) for name in setup.epps}
        for proxy in proxies.values():
            await cleanup.enter_async_context(proxy.running())
        setup = dataclasses.replace(setup, proxies=[proxy.port for proxy in proxies.values()])
        running = await cleanup.enter_async_context(stack.running(setup, folder))
        redis = await cleanup.enter_async_context(Redis(port=running.redis_port, socket_timeout=5))
        yield Stage(running, proxies, redis)


Pages = dict[str, str | None]


def _seen(pages: Pages, fault: Fault) -> bool:
    """Say whether the replicas say what the fault does to them."""
    names = list(pages)
    if fault.lost:
        living = [total(text, "epp_state_replicas") for text in pages.values() if text]
        return len(living) == len(names) - 1 and all(count == len(living) for count in living)
    if fault.meanwhile:
        return all(text and total(text, "epp_state_unreadable_total") for text in pages.values())
    blind = [pages[names[index]] for index in fault.blind]
    return bool(blind) and all(text and total(text, "epp_redis_up") == 0 for text in blind)


def _alike(pages: Pages) -> bool:
    """Say whether every replica is there, finds the others, and knows as many prefixes as they do."""
    texts = [text for text in pages.values() if text]
    if len(texts) < len(pages) or not all(total(text, "epp_redis_up") == 1 for text in texts):
        return False
    if any(total(text, "epp_state_replicas") != len(pages) for text in texts):
        return False
    blocks = [total(text, "epp_prefix_blocks") for text in texts]
    return min(blocks) >= (1 - ALIKE) * max(blocks)


async def _wait(http: aiohttp.ClientSession, running: Stack, holds: Callable[[Pages], bool]) -> float | None:
    """Return the seconds until `holds`; None when it does not in time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (elapsed := loop.time() - began) < PATIENCE:
        if holds(await readings.pages(http, running)):
            return round(elapsed, 2)
        await asyncio.sleep(LOOK)
    return None


def _outcome(
    fault: Fault,
    running: Stack,
    found: Sequence[Sample],
    times: Times,
    wall: float,
    pages: Pages,
    seen: float | None,
    alike: float | None,
) -> Outcome:
    begin, end = times.before, times.before + times.during
    picks = [took for at, took in traffic.picks(running.access_log) if begin <= at - wall < end]
    logs = [running.log(name).read_text(errors="replace") for name in running.setup.epps]
    return Outcome(
        fault=fault.name,
        requests=len(found),
        failed=sum(sample.failed for sample in found),
        hit_rate_during=round(traffic.hit_rate(traffic.window(found, begin, end)), 4),
        hit_rate_after=round(traffic.hit_rate(traffic.window(found, end, times.all)), 4),
        pick_p50_during=round(traffic.percentile(picks, 0.5), 5),
        pick_p99_during=round(traffic.percentile(picks, 0.99), 5),
        seen_after=seen,
        log_lines=sum(text.count("redis_unreachable") for text in logs),
        alike_after=alike,
        unreadable=sum(
            int(value)
            for text in pages.values()
            for _, value in samples(text or "", "epp_state_unreadable_total")
        ),
    )


HEAD = (
    "fault",
    "failed",
    "hit rate during, after",
    "of the control's",
    "pick p50, p99 ms during",
    "seen after s",
    "log lines",
    "alike again after s",
)


def markdown(rows: Sequence[Outcome]) -> str:
    """Return the table; hit rates also against the run without a fault."""
    control = next((row for row in rows if row.fault == FAULTS[0].name), rows[0])
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in rows:
        during = row.hit_rate_during / (control.hit_rate_during or 1.0)
        after = row.hit_rate_after / (control.hit_rate_after or 1.0)
        lines.append(
            f"| {row.fault} | {row.failed} of {row.requests} | {row.hit_rate_during:.1%}, {row.hit_rate_after:.1%} | "
            f"{during:.3f}, {after:.3f} | {1000 * row.pick_p50_during:.1f}, {1000 * row.pick_p99_during:.1f} | "
            f"{_number(row.seen_after)} | {row.log_lines} | {_number(row.alike_after)} |"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
