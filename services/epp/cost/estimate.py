"""The formula: seconds that one request costs at each server, its own and those it takes from others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.epp.cost.pace import Pace
from services.epp.cost.typical import Typical
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
    goes_on: bool = False
    """It is a conversation's next turn."""


USUAL = 4.0
"""Times the usual prompt: as much of one is what others bring too, and so evens out between the servers."""
CHANCE = 2.0
"""Times the root of a batch's size: a difference that counts by half, because it is as likely to be chance."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What the formula weighs; tuned on modelled engines: `docs/scheduling.md`."""

    burden: float = 1.0
    """Seconds taken from requests that are there, against own seconds."""
    foresight: float = 2.0
    """Requests that a prompt will have held up later, wherever it is computed, against the root of the mean number of
    requests at a server times the share of its time that prompts take now."""
    patience: float = 1.5
    """Own seconds after the first token that are as bad as one before it, in which there is nothing to read."""
    handling: float = 0.005
    """Seconds that each request takes from the others at its server whatever the GPU does: HTTP, tokens, scheduling. On a
    fast and idle pool it is all that keeps a prompt which everybody shares from drawing everybody to one server."""
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

    Loops without calls that could be avoided: a thousand servers have two milliseconds.
    """
    now, prompt, output, cached = job.now, job.prompt_tokens, job.output_tokens, job.cached
    context, whole = prompt + output, typical.context_tokens
    uncached, turnover = typical.uncached_tokens, typical.seconds
    burden, patience, handling = prices.burden, prices.patience, prices.handling
    at = [(server.slot, server.metrics, loads[server.slot], paces[server.slot]) for server in servers]
    # What a server reported, corrected, and at least what is there from here.
    counts = [
        reported
        if (reported := metrics.running + metrics.waiting + load.unseen - load.finished) > load.requests
        else load.requests
        for _, metrics, load, _ in at
    ]
    mean = sum(counts) / len(counts)
    coming = mean / turnover
    future = prices.foresight * (mean * typical.busy(now) / len(at)) ** 0.5
    # What a token costs that is asked for again when it has gone, by the chance that it is.
    gone = typical.again * (patience + mean + future)
    # What is missing and not worth having at one server more.
    gains = gain(cached)
    anew = prompt - gains.get(-1, 0.0)
    lasting = [prompt - cached[slot] - gains[slot] if slot in cached else anew for slot, _, _, _ in at]
    usual = min(*lasting, USUAL * uncached)
    costs = []
    for (slot, metrics, load, pace), count, even, kept in zip(
        at, counts, _evened(counts, mean), lasting, strict=True
    ):
        each, read, compute = pace.sequence, pace.context, pace.prefill
        there = load.context_tokens
        batch = count * each + there * read
        wait = pace.wait(now, batch) if count else max(0.0, pace.busy_until - now)
        # By what the server reported: for its queue, or for room in its cache.
        if waiting := metrics.waiting:
            queue = waiting * uncached * compute - now + metrics.scraped_at
            wait = queue if queue > wait else wait  # noqa: FURB136 - a call more, a thousand times
        later = kept * future
        if blocks := metrics.num_blocks:
            claimed, size = (waiting + load.unseen) * whole + context, metrics.block_size * blocks
            room = (metrics.kv_usage + claimed / size - 1.0) * turnover
            wait = room if room > wait else wait  # noqa: FURB136
            if (over := there + pace.paused_tokens + context - size) > 0.0:
                later += min(over, context) * gone
        prefill = (prompt - cached[slot] if slot in cached else prompt) * compute
        # Those that come while there is a queue are behind this prompt in it.
        own = wait + pace.first + prefill * (1.0 + wait * coming)
        # The others share half of this answer, in the mean: each slows the other's steps.
        theirs = there / count if count else whole
        mutual = each + theirs * read + burden / 2 * (each + context * read)
        ours = patience * own + output * (pace.step + even * mutual) + handling * count
        held_up = burden * (usual * even + (kept - usual) * count)
        costs.append((ours + (later + held_up) * compute) * pace.attempts)
    if turns := typical.turns * _new(job):
        _add_turns(costs, turns, [pace for _, _, _, pace in at], typical, prices)
    if job.adapter:
        _add_adapters(costs, job.adapter, servers, paces, prices, turnover)
    return costs


def _evened(counts: Sequence[int], mean: float) -> list[float]:
    """Return the batches as they will be while an answer lasts, where now there are `counts`, `mean` on average.

    Batches that differ by about the root of their size differ by chance, and come together again long before an answer
    has ended; larger differences, by affinity or speed, last.
    """
    chance = CHANCE * max(mean, 1.0) ** 0.5 * (mean > 0)
    return [
        mean + (count - mean) * (off / (off + chance) if (off := abs(count - mean)) else 0.0)
        for count in counts
    ]


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


def _new(job: Job) -> float:
    """Return how far a conversation begins with this prompt: 1 where nobody knows it, 0 where somebody has half of it."""
    if job.goes_on:
        return 0.0
    return max(0.0, 1.0 - 2.0 * max(job.cached.values(), default=0.0) / max(job.prompt_tokens, 1.0))


def _add_turns(
    costs: list[float], turns: float, paces: Sequence[Pace], typical: Typical, prices: Prices
) -> None:
    """Add what the `turns` of a conversation that begins and those of the ones at home there will cost each other.

    Those that pause now come back to where they are, and so will this one: therefore a server's usual number of requests
    counts. What it is everywhere is left out.
    """
    output = typical.output_tokens * (1.0 + prices.burden / 2)
    context, uncached = typical.context_tokens, typical.uncached_tokens
    shared = [
        pace.usual * (output * (pace.sequence + context * pace.context) + uncached * pace.prefill)
        for pace in paces
    ]
    least = min(shared)
    for position, pace in enumerate(paces):
        costs[position] += pace.attempts * turns * (shared[position] - least)


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
        wait = prices.adapter_load + (turnover if full else 0.0)
        costs[position] += pace.attempts * prices.patience * wait
