"""The formula: seconds that one request costs at each server, its own and those it takes from others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.epp.cost.pace import CONTEXT, Pace, Typical
from services.epp.endpoints import Server
from services.epp.inflight import Load


@dataclass(frozen=True, slots=True)
class Job:
    """One request, as far as its cost goes."""

    prompt_tokens: float
    output_tokens: float
    cached: Mapping[int, float]
    """`Server.slot` → tokens of the prompt that are in its cache. Absent: none."""
    now: float
    adapter: str = ""
    """Empty for the base model."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What the formula weighs."""

    burden: float = 1.0
    future: float = 0.5
    crowding: float = 1.0
    """Seconds taken from others against own seconds."""
    adapter_load: float = 0.2
    """Seconds to bring in an adapter."""


def estimate(
    job: Job,
    servers: Sequence[Server],
    loads: Sequence[Load],
    paces: Sequence[Pace],
    typical: Typical,
    prices: Prices,
) -> list[float]:
    """Return the cost at each of `servers`, in seconds; every one is above 0.

        cost = attempts · (wait + prefill + decode + adapter + burden)

        wait    = max(time until the prompts already sent are computed,
                      requests that the server reports as waiting, at a typical prompt's time, less the report's age,
                      share of the KV cache that is missing, times a typical request's time)
        prefill = first + u · prefill                           u: uncached prompt tokens
        decode  = o · (step + sequence · N)                     o: expected output tokens
        burden  = n · (u · prefill + o · sequence · size) · prices.burden

    n is the number of requests there, N their size in sequences: a request counts 1 and 1 more for each `CONTEXT`
    tokens of context, which is what a decode step has to read.
    """
    now, prompt, output = job.now, job.prompt_tokens, job.output_tokens
    context = prompt + output
    size, cached, burden = 1.0 + context / CONTEXT, job.cached.get, prices.burden
    gains = gain(job.cached)
    first_copy, gained = gains.get(-1, 0.0), gains.get
    each, turnover, whole = typical.uncached_tokens, typical.seconds, typical.context_tokens
    costs = []
    mean = sum(loads[server.slot].requests for server in servers) / len(servers)
    future = prices.future * mean
    crowding = prices.crowding
    for server in servers:
        slot, metrics = server.slot, server.metrics
        load, pace, waiting = loads[slot], paces[slot], metrics.waiting
        reported = metrics.running + waiting + load.unseen - load.finished
        n = max(load.requests, reported)
        own = (prompt - cached(slot, 0.0)) * pace.prefill
        wait = pace.busy_until - now if pace.busy_until > now else 0.0
        if waiting:
            wait = max(wait, waiting * each * pace.prefill - now + metrics.scraped_at)
        if metrics.num_blocks:
            cache = metrics.num_blocks * metrics.block_size
            missing = metrics.kv_usage + ((waiting + load.unseen) * whole + context) / cache - 1.0
            wait = max(wait, missing * turnover)
        crowd = pace.sequence * output
        cost = (
            wait
            + pace.first
            + own
            + output * pace.step
            + crowd * (n + load.context_tokens / CONTEXT)
            + (own - gained(slot, first_copy) * pace.prefill) * (burden * n + future)
            + crowding * n * crowd * size
        )
        costs.append(cost * pace.attempts)
    if job.adapter:
        _add_adapters(costs, job.adapter, servers, paces, prices, turnover)
    return costs


def gain(cached: Mapping[int, float]) -> dict[int, float]:
    """Return, for each slot in `cached` and for all others under -1, the missing tokens that are worth computing there.

    What c servers hold, others will ask for again: 1 - 1/c of it is worth having one server more. A conversation that
    one server knows is worth nothing elsewhere, a system prompt that everybody uses soon is everywhere.
    """
    depths = sorted(cached.values(), reverse=True)
    gains, sum_, above = {}, 0.0, 0.0
    for count, depth in enumerate(depths):
        if count:
            sum_ += (above - depth) * (1.0 - 1.0 / count)
        gains[depth] = sum_
        above = depth
    found = {slot: gains[depth] for slot, depth in cached.items()}
    if depths:
        found[-1] = sum_ + above * (1.0 - 1.0 / len(depths))
    return found


def _add_adapters(
    costs: list[float],
    adapter: str,
    servers: Sequence[Server],
    paces: Sequence[Pace],
    prices: Prices,
    turnover: float,
) -> None:
    """Add the time to bring in an adapter, and to wait for a place where all are in use."""
    for position, server in enumerate(servers):
        metrics, pace = server.metrics, paces[server.slot]
        if adapter in pace.adapters or adapter in metrics.active_adapters:
            continue
        full = len(metrics.active_adapters) >= metrics.max_adapters > 0
        costs[position] += pace.attempts * (prices.adapter_load + (turnover if full else 0.0))
