"""What one run came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from bench.routing.fleet import Fleet
from bench.routing.turns import BLOCK, Turn
from bench.routing.world import Outcome

WARM = 0.25
"""Share of the time in which sessions arrive that only warms caches and rates up. What is asked after the last arrival
does not count either: the load goes down."""
FEW = 8
"""Tokens of an answer below which a mean time per token says nothing."""


class Row(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One run after its warm-up. Times in milliseconds."""

    requests: int
    ttft_p50: float
    ttft_p90: float
    ttft_p99: float
    tpot_p50: float
    tpot_p90: float
    tpot_p99: float
    e2e_mean: float
    throughput: float
    """Tokens of answers per second, of requests that came and ended while others still came."""
    keeping_up: float
    """Requests that ended over those that came, in the same time: well below 1 the queue grows."""
    goodput: float
    """Share of the requests that were answered within the objectives; a shed one was not."""
    hits: float
    """Share of the prompts' tokens found in the server's cache."""
    ideal_hits: float
    """What one endless cache would have found."""
    imbalance: float
    """Most requests at one server, against the mean."""
    retries: int
    shed: dict[str, float]
    """Share of each class that was refused; empty where nobody may be."""


def measure(outcomes: Iterable[Outcome], fleet: Fleet, last: float) -> Row:
    """Sum up one run, in which the last session came at `last` seconds.

    Refused requests, and of workloads with classes those that may be refused, have no times.
    """
    ordered = sorted((one for one in outcomes if one.started <= last), key=lambda one: one.started)
    first = next(number for number, one in enumerate(ordered) if one.started >= WARM * last)
    warm = ordered[first:]
    answered = [one for one in warm if not one.shed]
    timed = [one for one in answered if one.turn.objective != "bulk"] or answered
    ttft = sorted(one.ttft for one in timed)
    tpot = sorted(_tpot(one) for one in timed if one.turn.output_tokens > FEW)
    begins = WARM * last
    done = [one for one in ordered if not one.shed and begins < one.started + one.seconds <= last]
    by = Counter(one.server for one in answered)
    ideal = ideal_hits(one.turn for one in ordered)
    prompts = sum(one.turn.prompt_tokens for one in answered)
    return Row(
        requests=len(warm),
        ttft_p50=_ms(ttft, 0.5),
        ttft_p90=_ms(ttft, 0.9),
        ttft_p99=_ms(ttft, 0.99),
        tpot_p50=_ms(tpot, 0.5),
        tpot_p90=_ms(tpot, 0.9),
        tpot_p99=_ms(tpot, 0.99),
        e2e_mean=round(1000 * sum(one.seconds for one in timed) / len(timed), 3),
        throughput=round(sum(one.turn.output_tokens for one in done) / (last - begins), 3),
        keeping_up=round(len(done) / len(answered), 4),
        goodput=round(sum(1 for one in warm if meets(one, fleet)) / len(warm), 5),
        hits=round(sum(one.cached for one in answered) / prompts, 5),
        ideal_hits=round(sum(ideal[first:]) / sum(o.turn.prompt_tokens for o in warm), 5),
        imbalance=round(max(by.values()) * fleet.servers / len(answered), 4),
        retries=sum(one.retries for one in ordered),
        shed=_shed(warm),
    )


def meets(one: Outcome, fleet: Fleet) -> bool:
    """Say whether a request was answered as its user expects."""
    if one.shed:
        return False
    slo = fleet.slo
    patience = slo.first_token + 2 * one.turn.prompt_tokens / fleet.profile.prefill_rate
    return one.ttft <= patience and _tpot(one) <= slo.per_token


def ideal_hits(turns: Iterable[Turn]) -> list[int]:
    """Return how many tokens of each prompt one server that forgets nothing would have found, one after the other."""
    known: set[int] = set()
    found = []
    for turn in turns:
        most = (turn.prompt_tokens - 1) // BLOCK
        held = next((k for k, block in enumerate(turn.blocks[:most]) if block not in known), most)
        found.append(held * BLOCK)
        known.update(turn.blocks)
    return found


def _tpot(one: Outcome) -> float:
    return (one.seconds - one.ttft) / max(1, one.turn.output_tokens - 1)


def _ms(values: Sequence[float], share: float) -> float:
    """Return a percentile that really was measured."""
    return round(1000 * values[min(len(values) - 1, int(share * len(values)))], 3)


def _shed(warm: Sequence[Outcome]) -> dict[str, float]:
    asked = Counter(one.turn.objective or "standard" for one in warm)
    refused = Counter(one.turn.objective or "standard" for one in warm if one.shed)
    return (
        {name: round(refused[name] / count, 4) for name, count in sorted(asked.items())}
        if len(asked) > 1
        else {}
    )
