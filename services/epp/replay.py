"""Decide recorded decisions again under another configuration, to see what would change."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from services.epp.assemble import assemble
from services.epp.config import EndpointPickerConfig
from services.epp.cost.pace import Pace
from services.epp.cost.typical import Typical
from services.epp.endpoints import Endpoint, Server
from services.epp.explain import Candidate, Explanation, why
from services.epp.inflight import Load
from services.epp.scheduling.interfaces import Decision, Scheduler, Situation
from services.extproc.errors import ExtProcError
from services.extproc.events import Headers
from services.openai.digest import Digest


@dataclass(frozen=True, slots=True)
class Change:
    """One decision, then and now. An empty address means that nobody would have got it."""

    id: str
    then: str
    now: str
    why: str

    @property
    def same(self) -> bool:
        """Whether the first choice is the same."""
        return self.then == self.now


def read(text: bytes) -> list[Explanation]:
    """Read what `/debug/decisions` gives, or one decision on each line; raise ValueError for anything else."""
    try:
        if text.lstrip().startswith(b"["):
            return msgspec.json.decode(text, type=list[Explanation])
        lines = [line for line in text.splitlines() if line.strip()]
        return [msgspec.json.decode(line, type=Explanation) for line in lines]
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a record of decisions: {error}") from error


def replay(explanations: Sequence[Explanation], config: EndpointPickerConfig) -> Iterator[Change]:
    """Decide each again. Ties are broken anew: by the decision's id, so that two runs say the same.

    What plugins remember of earlier requests is not recorded: each begins as at the start. Raises `ConfigError`.
    """
    scheduler = assemble(config).scheduler
    for explanation in explanations:
        yield _again(explanation, scheduler)


def _again(explanation: Explanation, scheduler: Scheduler) -> Change:
    then = explanation.chosen[0] if explanation.chosen else ""
    servers = [_server(candidate) for candidate in explanation.candidates]
    try:
        decision = scheduler.run(_situation(explanation), servers, random.Random(explanation.id))
    except ExtProcError as error:
        return Change(explanation.id, then, "", error.message)
    if decision.servers and then in _tied(decision):
        return Change(explanation.id, then, then, why(decision))
    now = decision.servers[0].address if decision.servers else ""
    return Change(explanation.id, then, now, why(decision))


def _tied(decision: Decision) -> frozenset[str]:
    """Return all that are as good as the choice: chance decided between them, then and now."""
    totals = {
        server.address: total for server, total in zip(decision.candidates, decision.totals, strict=True)
    }
    best = totals.get(decision.servers[0].address)
    return frozenset(address for address, total in totals.items() if total == best)


def _server(candidate: Candidate) -> Server:
    endpoint = Endpoint(candidate.endpoint, candidate.labels)
    return Server(endpoint, candidate.slot, candidate.metrics, ready=True)


def _situation(explanation: Explanation) -> Situation:
    shape = dict(explanation.digest)
    blocks = shape.pop("blocks")
    count = blocks if isinstance(blocks, int) else 0
    digest = msgspec.convert(shape | {"blocks": list(range(count))}, type=Digest)
    slots = 1 + max(candidate.slot for candidate in explanation.candidates)
    loads, paces = [Load() for _ in range(slots)], [Pace() for _ in range(slots)]
    for candidate in explanation.candidates:
        loads[candidate.slot] = candidate.load
        known = {field.name for field in dataclasses.fields(Pace)} & candidate.pace.keys()
        for name in known:
            setattr(paces[candidate.slot], name, candidate.pace[name])
    return Situation(
        digest=digest,
        now=explanation.now,
        loads=loads,
        paces=paces,
        typical=msgspec.convert(explanation.typical, type=Typical),
        matches={one.slot: one.matched_blocks for one in explanation.candidates if one.matched_blocks},
        headers=Headers(explanation.headers),
        base_model=explanation.base_model,
        priority=explanation.priority,
        pool=explanation.pool,
        zone=explanation.zone,
        chance=explanation.chance,
        goes_on=explanation.goes_on,
    )
