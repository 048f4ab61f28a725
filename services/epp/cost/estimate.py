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
    """What the formula weighs. The first two were tuned on modelled engines: `docs/scheduling.md`."""

    burden: float = 0.4
    """Seconds taken from requests that are there, against own seconds."""
    foresight: float = 0.75
    """Seconds taken from the requests that the pool will have there soon, against own seconds."""
    adapter_load: float = 0.2
    """Seconds to bring in an adapter: some 170 MB over PCIe, and its set-up."""


def estimate(
    job: Job,
    servers: Sequence[Server],
    loads: Sequence[Load],
    paces: Sequence[Pace],
    typical: Typical,
    prices: Prices,
) -> list[float]:
    """Return the cost at each of `servers`, in seconds; every one is above 0. `docs/scheduling.md` tells the formula.

    One loop without calls that could be avoided: a thousand servers have a millisecond.
    """
    now, prompt, output = job.now, job.prompt_tokens, job.output_tokens
    context = prompt + output
    each, turnover, whole = typical.uncached_tokens, typical.seconds, typical.context_tokens
    cached, gains, burden = job.cached.get, gain(job.cached), prices.burden
    nothing_cached, gained = gains.get(-1, 0.0), gains.get
    future = prices.foresight * sum([loads[server.slot].requests for server in servers]) / len(servers)
    slowed = 1.0 + burden * (1.0 + context / CONTEXT)
    costs = []
    for server in servers:
        slot, metrics = server.slot, server.metrics
        load, pace, waiting = loads[slot], paces[slot], metrics.waiting
        requests = load.requests
        reported = metrics.running + waiting + load.unseen - load.finished
        if reported > requests:  # noqa: PLR1730 - a call of max() costs as much as all of this
            requests = reported
        wait = pace.busy_until - now if pace.busy_until > now else 0.0
        if waiting:
            wait = max(wait, waiting * each * pace.prefill - now + metrics.scraped_at)
        if metrics.num_blocks:
            cache = metrics.num_blocks * metrics.block_size
            missing = metrics.kv_usage + ((waiting + load.unseen) * whole + context) / cache - 1.0
            if missing * turnover > wait:  # noqa: PLR1730 - same
                wait = missing * turnover
        prefill = (prompt - cached(slot, 0.0)) * pace.prefill
        lasting = prefill - gained(slot, nothing_cached) * pace.prefill
        decode = pace.step + pace.sequence * (requests * slowed + load.context_tokens / CONTEXT)
        cost = wait + pace.first + prefill + output * decode + lasting * (burden * requests + future)
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
