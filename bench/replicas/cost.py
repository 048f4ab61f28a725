"""CPU of the pickers per request, with shared state and without, in turns within one run."""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.replicas import stack, traffic
from bench.replicas.stack import Setup, Stack

AT_ONCE = 8
DISTANCE = 100
"""Between the ports of the two stacks."""
IDLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Cost:
    """One number of replicas. CPU in µs per request, summed over the replicas."""

    replicas: int
    rounds: int
    requests: int
    """Of each round, with a new prompt of a few hundred tokens each."""
    requests_per_second: float
    shared_us: float
    alone_us: float
    ratio: float
    """The median over the rounds of shared over alone."""
    idle_shared: float
    """Of one core, in sum, without requests: scraping, heartbeats."""
    idle_alone: float


async def measure(base: Setup, *, rounds: int, requests: int, folder: Path) -> Cost:
    """Run both stacks side by side and load them in turns, which changes who is first."""
    fast = dataclasses.replace(base, servers=2, speed=50.0, kv_blocks=65_536)
    alone = dataclasses.replace(fast, shared=False, port_offset=base.port_offset + DISTANCE)
    async with (
        stack.running(fast, folder / "shared") as shared_stack,
        stack.running(alone, folder / "alone") as alone_stack,
        traffic.client() as http,
    ):
        both = (shared_stack, alone_stack)
        idle = [await _idle(one) for one in both]
        used: list[list[float]] = [[], []]
        seconds = 0.0
        for number in range(rounds):
            for which in (0, 1) if number % 2 else (1, 0):
                cpu, took = await _round(http, both[which], number, requests)
                used[which].append((cpu - idle[which] * took) / requests)
                seconds += took
    ratios = [with_redis / without for with_redis, without in zip(*used, strict=True)]
    return Cost(
        replicas=base.replicas,
        rounds=rounds,
        requests=requests,
        requests_per_second=round(2 * rounds * requests / seconds, 1),
        shared_us=round(1e6 * statistics.median(used[0]), 1),
        alone_us=round(1e6 * statistics.median(used[1]), 1),
        ratio=round(statistics.median(ratios), 3),
        idle_shared=round(idle[0], 4),
        idle_alone=round(idle[1], 4),
    )


async def _idle(one: Stack) -> float:
    before = one.cpu(one.setup.epps)
    await asyncio.sleep(IDLE_SECONDS)
    return (one.cpu(one.setup.epps) - before) / IDLE_SECONDS


async def _round(http: aiohttp.ClientSession, one: Stack, number: int, requests: int) -> tuple[float, float]:
    """Return the pickers' CPU seconds and how long it took."""
    streaming, loop = traffic.Streaming(http, one.gateway, limit=AT_ONCE), asyncio.get_running_loop()
    before, began = one.cpu(one.setup.epps), loop.time()
    await asyncio.gather(*(streaming(request) for request in traffic.singles(requests, seed=number)))
    await asyncio.sleep(0.1)  # the access log, and what is told of it
    return one.cpu(one.setup.epps) - before, loop.time() - began


def markdown(rows: list[Cost]) -> str:
    """Return the table."""
    lines = [
        "| replicas | CPU per request shared, alone µs | ratio | idle, of a core: shared, alone |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row.replicas} | {row.shared_us:.0f}, {row.alone_us:.0f} | {row.ratio:.2f} | "
        f"{row.idle_shared:.1%}, {row.idle_alone:.1%} |"
        for row in rows
    ]
    return "\n".join(lines)
