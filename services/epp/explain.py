"""Why a request went where it went, with all that the decision looked at, so that it can be decided again.

No text of the prompt is kept and none of its hashes: their number and each server's match are enough.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from services.epp.endpoints import Metrics, Server
from services.epp.inflight import Load
from services.epp.scheduling.interfaces import Decision, Situation
from services.epp.scheduling.scorers.cost import Cost
from services.extproc.events import Headers

HEADER = "x-gateway-explain"
"""`true` asks for an explanation. The proxy removes it from clients that are not trusted."""
TOTALS = 16
"""Servers whose totals are told in short: a header of a thousand would be refused by clients."""
TELLING = ("x-gateway-", "x-llm-d-", "x-slo-", "x-session-", "epp-profile", "test-epp-", "prefer")
"""Beginnings of the header names that plugins read and that are kept. Others may hold secrets."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One server, as the decision saw it."""

    endpoint: str
    slot: int
    labels: dict[str, str]
    metrics: Metrics
    load: Load
    matched_blocks: int
    pace: dict[str, float]
    estimate_seconds: float
    """What the request was expected to cost there, by the default formula."""
    passed: bool
    """No filter of the profile dropped it."""
    total: float | None = None
    scores: dict[str, tuple[float, float]] = {}
    """Scorer → its raw score and what it counted with its weight."""


class Step(msgspec.Struct, frozen=True):
    """What a filter left."""

    plugin: str
    kept: int
    of: int


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One decision."""

    id: str
    at: float
    """Unix time in seconds."""
    pool: str
    profile: str
    chosen: list[str]
    """In the order to be tried; empty when a filter left nobody."""
    prefill: str = ""
    encode: list[str] = []
    why: str
    now: float
    """The monotonic clock that `scraped_at` is of."""
    chance: float
    goes_on: bool = False
    """It is the next turn of a conversation."""
    priority: int
    fairness: str
    base_model: str
    zone: str
    headers: list[tuple[str, str]]
    digest: dict[str, object]
    """All of the digest but its hashes, and their number as `blocks`."""
    typical: dict[str, float]
    steps: list[Step]
    candidates: list[Candidate]


def explain(
    id_: str,
    situation: Situation,
    candidates: Sequence[Server],
    decision: Decision,
    *,
    fairness: str,
    at: float,
) -> Explanation:
    """Return why `decision` came about."""
    estimates = Cost().seconds(situation, candidates)
    return Explanation(
        id=id_,
        at=at,
        pool=situation.pool,
        profile=decision.profile,
        chosen=[server.address for server in decision.servers],
        prefill=decision.prefill.servers[0].address if decision.prefill else "",
        encode=[server.address for server in decision.encode.servers] if decision.encode else [],
        why=why(decision),
        now=situation.now,
        chance=situation.chance,
        goes_on=situation.goes_on,
        priority=situation.priority,
        fairness=fairness,
        base_model=situation.base_model,
        zone=situation.zone,
        headers=[(name, value) for name, value in situation.headers if name.startswith(TELLING)],
        digest=_shape(situation),
        typical=dataclasses.asdict(situation.typical),
        steps=[Step(verdict.plugin, verdict.kept, verdict.of) for verdict in decision.verdicts],
        candidates=[
            _candidate(situation, server, decision, seconds)
            for server, seconds in zip(candidates, estimates, strict=True)
        ],
    )


def why(decision: Decision) -> str:
    """Say in one sentence what decided."""
    if not decision.servers:
        return f"the filter {decision.verdicts[-1].plugin} left nobody"
    if len(decision.candidates) == 1:
        return "the only candidate"
    places = {server.address: place for place, server in enumerate(decision.candidates)}
    first = places[decision.servers[0].address]
    others = [place for place in range(len(decision.totals)) if place != first]
    second = max(others, key=decision.totals.__getitem__)
    lead = decision.totals[first] - decision.totals[second]
    against = f"{decision.totals[first]:.3f} against {decision.totals[second]:.3f} of the next"
    if lead == 0:
        return f"a tie: {against}"
    if lead < 0:
        return f"the picker's chance: {against}"
    gains = [
        (scores.weight * (scores.raw[first] - scores.raw[second]), scores.plugin)
        for scores in decision.scores
    ]
    gain, plugin = max(gains)
    return f"highest total: {against}; most of it by {plugin} ({gain:+.3f})"


def compact(explanation: Explanation) -> str:
    """Return what fits an access log's field or a header: the choice, why, and the best totals, as JSON."""
    scored = {one.endpoint: round(one.total, 4) for one in explanation.candidates if one.total is not None}
    best = sorted(scored, key=scored.__getitem__, reverse=True)[:TOTALS]
    totals = {address: scored[address] for address in scored if address in best}
    return json.dumps({"chosen": explanation.chosen, "why": explanation.why, "totals": totals})


def asked(headers: Headers) -> bool:
    """Say whether the request of `headers` asks for its explanation; others are explained to the operator alone."""
    return headers.get(HEADER) == "true"


class Journal:
    """Decides who is explained, and keeps the last explanations. `wall` gives Unix time in seconds."""

    def __init__(self, *, keep: int, sample: float, rng: random.Random, wall: Callable[[], float]) -> None:
        self._kept: deque[Explanation] = deque(maxlen=keep)
        self._sample = sample
        self._rng = rng
        self.wall = wall

    def wants(self, headers: Headers) -> bool:
        """Say whether the request of `headers` is to be explained."""
        return asked(headers) or (self._sample > 0 and self._rng.random() < self._sample)

    def note(self, explanation: Explanation) -> None:
        """Keep `explanation`, in place of the oldest if there are too many."""
        self._kept.append(explanation)

    def page(self) -> bytes:
        """Return what is kept as JSON, newest first."""
        return msgspec.json.encode(list(reversed(self._kept)))


def _shape(situation: Situation) -> dict[str, object]:
    shape: dict[str, object] = {
        field.name: getattr(situation.digest, field.name)
        for field in dataclasses.fields(situation.digest)
        if field.name != "blocks"
    }
    return shape | {"blocks": len(situation.digest.blocks)}


def _candidate(situation: Situation, server: Server, decision: Decision, seconds: float) -> Candidate:
    place = next((at for at, one in enumerate(decision.candidates) if one.slot == server.slot), None)
    scores: Mapping[str, tuple[float, float]] = {}
    if place is not None:
        scores = {one.plugin: (one.raw[place], one.weight * one.raw[place]) for one in decision.scores}
    pace = situation.paces[server.slot]
    numbers = {field.name: getattr(pace, field.name) for field in dataclasses.fields(pace)}
    return Candidate(
        endpoint=server.address,
        slot=server.slot,
        labels=dict(server.endpoint.labels),
        metrics=server.metrics,
        load=dataclasses.replace(situation.loads[server.slot]),
        matched_blocks=situation.matches.get(server.slot, 0),
        pace={name: float(value) for name, value in numbers.items() if isinstance(value, int | float)},
        estimate_seconds=seconds,
        passed=place is not None,
        total=None if place is None else decision.totals[place],
        scores=dict(scores),
    )
