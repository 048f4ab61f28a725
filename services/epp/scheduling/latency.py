"""What a request's latency would be at each server, against what it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation
from services.extproc.events import Headers

TTFT = ("x-slo-ttft-ms", "x-llm-d-slo-ttft-ms")
TPOT = ("x-slo-tpot-ms", "x-llm-d-slo-tpot-ms")
DAY_MS = 86_400_000.0


@dataclass(frozen=True, slots=True)
class Objectives:
    """Seconds to the first token and for each further one that the request asks for; None where it does not say."""

    ttft: float | None
    tpot: float | None

    def __bool__(self) -> bool:
        return self.ttft is not None or self.tpot is not None


@dataclass(frozen=True, slots=True)
class Headroom:
    """Objective less prediction, in seconds; negative: missed. An objective that is not given is one of 0."""

    ttft: float
    tpot: float


def objectives(situation: Situation) -> Objectives:
    """Read the request's headers; what is no time between 0 and a day counts as not given."""
    return Objectives(wanted(situation.headers, TTFT), wanted(situation.headers, TPOT))


def headrooms(situation: Situation, servers: Sequence[Server]) -> list[Headroom]:
    """Predict from what was learnt of each server, as `services.epp.cost` does.

    ttft = wait + first + uncached prompt tokens · prefill;  tpot = step + sequence · requests there + context · tokens that they read
    """
    asked, digest = objectives(situation), situation.digest
    ttft, tpot = asked.ttft or 0.0, asked.tpot or 0.0
    found = []
    for server in servers:
        pace, load = situation.paces[server.slot], situation.loads[server.slot]
        uncached = digest.prompt_tokens - digest.prefix_tokens(situation.matches.get(server.slot, 0))
        first = max(0.0, pace.busy_until - situation.now) + pace.first + uncached * pace.prefill
        step = pace.step + pace.sequence * max(load.requests, server.metrics.running)
        found.append(Headroom(ttft - first, tpot - step - pace.context * load.context_tokens))
    return found


def wanted(headers: Headers, names: Sequence[str]) -> float | None:
    """Return the time in the first of these headers that there is, in seconds; None where it is none."""
    text = next((value for name in names if (value := headers.get(name))), "")
    try:
        milliseconds = float(text)
    except ValueError:
        return None
    return milliseconds / 1000.0 if 0 < milliseconds <= DAY_MS else None
