"""One request's way to a server, as plain synchronous code: pool → priority → candidates → admission → profile → load.

Deterministic: the same state, clock and random seed give the same decision. A refusal is an `ExtProcError`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.epp.endpoints import Server
from services.epp.explain import HEADER, Journal, asked, compact, explain
from services.epp.flow.policies import DEFAULT_FLOW
from services.epp.inflight import PREFILL, Entry
from services.epp.pool import Pool
from services.epp.records import Ended, Observer, Pick, PickOutcome, Release
from services.epp.retry_after import retry_after
from services.epp.scheduling.filters.ready import Ready
from services.epp.scheduling.filters.subset import SubsetHint
from services.epp.scheduling.interfaces import Decision, Detector, Scheduler, Situation
from services.epp.scheduling.subset import Subset
from services.epp.state import SharedState
from services.extproc.errors import ExtProcError, Overloaded, Unavailable
from services.extproc.events import Headers
from services.openai.digest import Digest, prefix_bytes
from services.openai.exact import Exact

DROPPED = "x-llm-d-request-dropped-reason"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request says to the director."""

    digest: Digest
    exact: Exact | None = None
    """Its prompt in tokens, as far as they are known."""
    pool: str = ""
    """Empty when the request does not say: then the only pool."""
    objective: str = ""
    base_model: str = ""
    subset: Subset | None = None
    headers: Headers = field(default_factory=Headers)
    fairness: str = DEFAULT_FLOW
    """Whose request it is: flows share a full pool."""
    ttl: float | None = None
    """Seconds that the client is willing to wait for a place."""
    first_token_slo: float = math.inf
    """Seconds in which the client wants its first token."""
    token_slo: float = math.inf
    """Seconds in which it wants each further one."""
    proxy: str = ""
    """For whom it is picked; empty when that does not say."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A decision that counts as load until it is released under `id`."""

    id: str
    pool: Pool
    decision: Decision
    explained: str = ""
    """Why, in short, for the log: where that was asked for, and of a sample."""
    answer_headers: tuple[tuple[str, str], ...] = ()
    """For the client: by the proxy from metadata, or by us where the answer's head passes here."""

    @property
    def addresses(self) -> str:
        """The servers in the order to be tried, as the endpoint picker protocol writes them."""
        return ",".join(server.address for server in self.decision.servers)


class Director:
    """Decides for all pools of one process. `instance` makes its decision ids unique among replicas and restarts."""

    def __init__(
        self,
        pools: Mapping[str, Pool],
        scheduler: Scheduler,
        *,
        detector: Detector,
        objectives: Mapping[str, int],
        clock: Callable[[], float],
        rng: random.Random,
        observer: Observer,
        state: SharedState,
        default_pool: str = "",
        zone: str = "",
        sheds: bool = True,
        journal: Journal | None = None,
        instance: str = "",
    ) -> None:
        """`sheds`: refuse sheddable requests to a saturated pool; else somebody in front lets nobody in.

        `instance`: eight hexadecimal digits; drawn if empty.
        """
        self._journal = journal
        self.pools = pools
        self._scheduler = scheduler
        self._detector = detector
        self._objectives = objectives
        self._default_pool = default_pool
        self._zone = zone
        self._sheds = sheds
        self._clock = clock
        self._rng = rng
        self._observer = observer
        self._state = state
        self._subset = SubsetHint()
        self._instance = instance or f"{rng.getrandbits(32):08x}"
        self._count = 0

    def reconfigure(
        self,
        scheduler: Scheduler,
        *,
        detector: Detector,
        objectives: Mapping[str, int],
        default_pool: str,
        zone: str,
    ) -> None:
        """Decide by these from now on. What is in flight stays so."""
        self._scheduler = scheduler
        self._detector = detector
        self._objectives = objectives
        self._default_pool = default_pool
        self._zone = zone

    def pick(self, ask: Ask) -> Reservation:
        """Choose servers for `ask` and count it as their load. Raises `Unavailable` (503) or `Overloaded` (429)."""
        started = self._clock()
        priority = self.priority(ask)
        try:
            reservation = self._pick(ask, priority)
        except ExtProcError as error:
            self._report(ask, priority, started, PickOutcome.of(error), None)
            raise
        self._report(ask, priority, started, PickOutcome.PICKED, reservation)
        return reservation

    def refused(self, ask: Ask, error: ExtProcError) -> ExtProcError:
        """Report a request that was refused before it came to a pick; return `error`."""
        self._report(ask, self.priority(ask), self._clock(), PickOutcome.of(error), None)
        return error

    def finish(self, end: Ended, by: Release) -> bool:
        """End a request of which it was observed how; return whether it was in flight here."""
        found = self.pools.get(end.pool)
        if found is not None and (done := found.finish(end)) is not None:
            self._observer.finished(done)
        elif not end.decision.startswith(self._instance) and self._state.pass_on(end):
            self._observer.released(end.pool, Release.PASSED_ON)
            return False
        return self.release(end.pool, end.decision, by)

    def release(self, pool: str, decision: str, by: Release, served: str | None = None) -> bool:
        """End a request; return whether it was in flight here. `served`: the server that got it in the end."""
        found = self.pools.get(pool)
        if found is None:
            return False
        known = found.release(decision, served)
        self._observer.released(pool, by if known else Release.UNKNOWN)
        return known

    def served(self, pool: str, decision: str, address: str) -> None:
        """Note which server a request went to in the end."""
        if (found := self.pools.get(pool)) is not None:
            found.served(decision, address)

    def lost(self, proxy: str, where: str = "") -> None:
        """End all that was picked for a proxy that is gone, in all pools or the one called `where`: nobody else would tell."""
        for pool in [one for one in self.pools.values() if where in {"", one.name}]:
            for entry in [entry for entry in pool.inflight if entry.proxy == proxy]:
                self.release(pool.name, entry.id, Release.PROXY_GONE)

    def now(self) -> float:
        """Return what the clock says, in seconds."""
        return self._clock()

    def saturation(self, pool: Pool) -> float:
        """Return how full `pool` is: 1 and more is saturated."""
        return self._detector.saturation(self._clock(), pool.snapshot.servers, pool.inflight.loads)

    def retry_after(self, pool: Pool, waiting: int = 0) -> str:
        """Return the seconds after which a refused client of `pool` may find room; `waiting` requests come before it."""
        loads = pool.inflight.loads
        busy = sum(
            max(loads[server.slot].requests, server.metrics.running + server.metrics.waiting)
            for server in pool.snapshot.servers
            if server.ready
        )
        saturation, seconds = self.saturation(pool), pool.fleet.typical.seconds
        return str(retry_after(busy=busy, seconds=seconds, waiting=waiting, saturation=saturation))

    def _pick(self, ask: Ask, priority: int) -> Reservation:
        pool = self.pool(ask.pool)
        pool.inflight.expire()
        goes_on = pool.continued(ask.digest.blocks, ask.digest.prompt_tokens)
        situation = Situation(
            digest=ask.digest,
            now=self._clock(),
            loads=pool.inflight.loads,
            matches=pool.matches(ask.digest, ask.exact),
            paces=pool.fleet.paces,
            typical=pool.fleet.typical,
            headers=ask.headers,
            base_model=ask.base_model,
            subset=ask.subset,
            priority=priority,
            pool=pool.name,
            zone=self._zone,
            chance=self._rng.random(),
            goes_on=goes_on,
        )
        candidates = self._candidates(situation, pool)
        self._admit(pool, priority)
        decision = self._scheduler.run(situation, candidates, self._rng)
        if not decision.servers:
            self._explain(situation, candidates, decision, ask.fairness)
            by = decision.verdicts[-1].plugin
            raise _no_endpoint(f"no server of pool {pool.name!r} passes the filter {by!r}", "filtered")
        explained = self._explain(situation, candidates, decision, ask.fairness)
        again = _alone(ask.digest, situation.matches) if goes_on else 0
        return self._reserve(pool, decision, situation, ask, explained, again)

    def pool(self, name: str) -> Pool:
        """Return the pool called `name`, or the default one; raise `Unavailable` when there is none."""
        name = name or self._default_pool
        pool = next(iter(self.pools.values())) if not name and len(self.pools) == 1 else self.pools.get(name)
        if pool is None:
            raise _no_endpoint(
                f"no pool {name!r} is configured" if name else "the request names no pool", "no_pool"
            )
        return pool

    def _candidates(self, situation: Situation, pool: Pool) -> Sequence[Server]:
        allowed = self._subset.keep(situation, pool.snapshot.servers)
        if not allowed and situation.subset is not None:
            raise _no_endpoint(f"no server of pool {pool.name!r} is in the subset", "no_subset")
        ready = Ready(pool.limits.staleness).keep(situation, allowed)
        if not ready:
            raise _no_endpoint(f"no server of pool {pool.name!r} is ready", "no_endpoint")
        return ready

    def _admit(self, pool: Pool, priority: int) -> None:
        if self._sheds and priority < 0 and self.saturation(pool) >= 1.0:
            raise Overloaded(
                f"pool {pool.name!r} is saturated and the request's priority is {priority}",
                reason="saturated",
                headers=(("retry-after", self.retry_after(pool)), (DROPPED, "rejected-saturated")),
            )

    def priority(self, ask: Ask) -> int:
        """Return the priority of the named objective, else of the one named as the model; 0 for unknown names."""
        return self._objectives.get(ask.objective or ask.digest.model, 0)

    @property
    def _next_id(self) -> str:
        return f"{self._instance}-{self._count + 1:x}"

    def _explain(
        self, situation: Situation, candidates: Sequence[Server], decision: Decision, fairness: str
    ) -> str:
        """Keep the explanation of a decision before its load counts, and return it in short, if it is wanted."""
        if self._journal is None or not self._journal.wants(situation.headers):
            return ""
        at = self._journal.wall()
        explanation = explain(self._next_id, situation, candidates, decision, fairness=fairness, at=at)
        self._journal.note(explanation)
        return compact(explanation)

    def _reserve(
        self,
        pool: Pool,
        decision: Decision,
        situation: Situation,
        ask: Ask,
        explained: str,
        again_tokens: int,
    ) -> Reservation:
        first, digest = decision.servers[0], situation.digest
        id_ = self._next_id
        self._count += 1
        output = round(situation.typical.output(digest.max_tokens))
        if decision.prefill is not None:
            # The prompt is this server's work. Whoever ends the request ends this too.
            prefiller = decision.prefill.servers[0]
            prefill = _entry(id_ + PREFILL, prefiller, situation, output_tokens=0, ask=Ask(digest))
            pool.reserve(prefill, ask.exact)
        entry = _entry(id_, first, situation, output_tokens=output, ask=ask, again_tokens=again_tokens)
        pool.reserve(entry if decision.prefill is None else replace(entry, prompt_tokens=0), ask.exact)
        headers = self._scheduler.chosen(situation, decision)
        if explained and asked(situation.headers):
            headers += ((HEADER, explained),)
        return Reservation(id_, pool, decision, explained, headers)

    def _report(
        self, ask: Ask, priority: int, started: float, outcome: PickOutcome, reservation: Reservation | None
    ) -> None:
        entry = reservation.pool.inflight.get(reservation.id) if reservation else None
        self._observer.picked(
            Pick(
                pool=reservation.pool.name if reservation else ask.pool,
                model=ask.digest.model,
                priority=priority,
                outcome=outcome,
                seconds=self._clock() - started,
                endpoint=reservation.decision.servers[0].address if reservation else "",
                prompt_bytes=ask.digest.prompt_bytes,
                matched_bytes=prefix_bytes(entry.matched) if entry else 0,
                stages=reservation.decision.stages if reservation else "",
            )
        )


def _entry(
    id_: str, server: Server, situation: Situation, *, output_tokens: int, ask: Ask, again_tokens: int = 0
) -> Entry:
    digest, matched = situation.digest, situation.matches.get(server.slot, 0)
    return Entry(
        id=id_,
        slot=server.slot,
        picked_at=situation.now,
        prompt_tokens=max(0, digest.prompt_tokens - digest.prefix_tokens(matched)),
        output_tokens=output_tokens,
        blocks=digest.blocks,
        matched=matched,
        model=digest.model,
        stream=digest.stream,
        context_tokens=digest.prompt_tokens,
        again_tokens=again_tokens,
        max_tokens=digest.max_tokens,
        prompt_bytes=digest.prompt_bytes,
        priority=situation.priority,
        fairness=ask.fairness,
        proxy=ask.proxy,
        first_token_slo=ask.first_token_slo,
        token_slo=ask.token_slo,
    )


def _alone(digest: Digest, matches: Mapping[int, int]) -> int:
    """Return the tokens of a prompt that one server holds and no other."""
    longest, next_to_it = (*sorted(matches.values(), reverse=True)[:2], 0, 0)[:2]
    return digest.prefix_tokens(longest) - digest.prefix_tokens(next_to_it)


def _no_endpoint(message: str, reason: str) -> Unavailable:
    return Unavailable(message, reason=reason, headers=((DROPPED, "rejected-no-endpoints"),))
