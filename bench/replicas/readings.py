"""What the parts of a running stack count: the model servers, Redis and the pickers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
from redis.asyncio import Redis

from bench.replicas.stack import POOL, Stack, page, samples
from tools.model_server.constants import LLAMA_8B_H100

STREAM = f"igw:{{{POOL}}}:log"


class _Counters(msgspec.Struct):
    cache_queries: int
    cache_hits: int
    generation_tokens: int


class _State(msgspec.Struct):
    counters: _Counters
    running: int
    waiting: int
    models: dict[str, int]


@dataclass(frozen=True, slots=True)
class Server:
    """What one model server counts."""

    requests: int
    prompt_tokens: int
    cached_tokens: int
    generated: int

    @property
    def work(self) -> float:
        """Seconds of an engine that this takes when nothing else runs: what a balance is about."""
        profile = LLAMA_8B_H100
        return (
            self.prompt_tokens - self.cached_tokens
        ) / profile.prefill_rate + self.generated * profile.decode_per_sequence


async def fleet(http: aiohttp.ClientSession, stack: Stack) -> list[Server]:
    """Ask every model server."""

    async def one(port: int) -> Server:
        async with http.get(f"http://127.0.0.1:{port}/admin/state") as answer:
            state = _STATE.decode(await answer.read())
        counters = state.counters
        return Server(
            sum(state.models.values()),
            counters.cache_queries,
            counters.cache_hits,
            counters.generation_tokens,
        )

    return list(await asyncio.gather(*(one(port) for port in stack.server_ports)))


def imbalance(values: Sequence[float]) -> float:
    """Return the largest over the mean."""
    return max(values) * len(values) / (sum(values) or 1.0)


def machine_time() -> tuple[float, float]:
    """Return the time that all cores have worked, and all their time, in ticks."""
    ticks = [float(part) for part in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def busy_share(since: tuple[float, float]) -> float:
    """Return the share of all cores' time that was worked since then."""
    worked, passed = (now - then for now, then in zip(machine_time(), since, strict=True))
    return round(worked / (passed or 1.0), 3)


@dataclass(frozen=True, slots=True)
class RedisUse:
    """What Redis counts; a difference of two, or what it holds."""

    commands: int
    bytes_in: int
    bytes_out: int
    calls: dict[str, int]
    """By command."""
    entries: int
    """In the stream."""
    stream_bytes: int

    def since(self, before: RedisUse) -> RedisUse:
        """Return what was done since `before`."""
        calls = {name: count - before.calls.get(name, 0) for name, count in self.calls.items()}
        return RedisUse(
            self.commands - before.commands,
            self.bytes_in - before.bytes_in,
            self.bytes_out - before.bytes_out,
            {name: count for name, count in sorted(calls.items()) if count},
            self.entries,
            self.stream_bytes,
        )


async def redis_use(stack: Stack) -> RedisUse:
    """Ask Redis."""
    async with Redis(port=stack.redis_port) as redis:
        stats = await redis.info("stats")
        commands = await redis.info("commandstats")
        entries = await redis.xlen(STREAM)
        size = await redis.memory_usage(STREAM, samples=0) if entries else 0
    calls = {name.removeprefix("cmdstat_"): int(of["calls"]) for name, of in commands.items()}
    return RedisUse(
        int(stats["total_commands_processed"]),
        int(stats["total_net_input_bytes"]),
        int(stats["total_net_output_bytes"]),
        calls,
        int(entries),
        int(size or 0),
    )


async def pages(http: aiohttp.ClientSession, stack: Stack) -> dict[str, str | None]:
    """Return the metrics of every replica, None of one that is away."""
    names = stack.setup.epps
    found = await asyncio.gather(*(page(http, stack.metrics_url(name)) for name in names))
    return dict(zip(names, found, strict=True))


class Buckets:
    """A histogram, or the sum or difference of several."""

    def __init__(self, counts: dict[float, float]) -> None:
        self.counts = counts
        """Upper bound → observations up to there."""

    @classmethod
    def of(cls, texts: Sequence[str], name: str) -> Buckets:
        """Return the sum of the histograms `name` of these pages."""
        counts: dict[float, float] = {}
        for text in texts:
            for labels, count in samples(text, f"{name}_bucket"):
                bound = float(labels.split('le="')[1].split('"')[0])
                counts[bound] = counts.get(bound, 0.0) + count
        return cls(counts)

    def since(self, before: Buckets) -> Buckets:
        """Return what was observed since `before`."""
        return Buckets({bound: count - before.counts.get(bound, 0.0) for bound, count in self.counts.items()})

    def quantile(self, rank: float) -> float:
        """Return the value at `rank`, on a straight line within its bucket."""
        bounds = sorted(self.counts)
        if not bounds or not self.counts[bounds[-1]]:
            return 0.0
        wanted, low, below = rank * self.counts[bounds[-1]], 0.0, 0.0
        for bound in bounds:
            count = self.counts[bound]
            if count >= wanted:
                return low + (bound - low) * (wanted - below) / ((count - below) or 1) if bound < 1e9 else low
            low, below = bound, count
        return low


_STATE = msgspec.json.Decoder(_State)
