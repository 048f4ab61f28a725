"""One run in virtual time: the real director and pool in front of modelled engines."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.routing_quick.workloads import Prompt, Turn, size
from services.epp.assemble import make_scheduler
from services.epp.config import EndpointPickerConfig
from services.epp.director import Ask, Director, Reservation
from services.epp.endpoints import Endpoint, Metrics
from services.epp.pool import Pool
from services.epp.records import EndOutcome, Finished, Release, Silent
from services.epp.reference_config import PluginRef, PluginSpec, ProfileSpec
from services.epp.scheduling.interfaces import Scheduler
from services.epp.scheduling.saturation import Utilization
from services.epp.state import Alone
from services.openai.digest import BOUNDARIES, BYTES_PER_TOKEN, Digest
from tools.model_server.constants import Profile
from tools.model_server.engine import Engine, Progress, Request

SCRAPE = 0.2
END_KNOWN_AFTER = 0.004


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request that was answered. Times in seconds, lengths in tokens."""

    server: int
    started: float
    ttft: float
    end: float
    prompt: int
    cached: int
    output: int

    @property
    def seconds(self) -> float:
        """From asking to the last token."""
        return self.end - self.started


def _config(profile: Sequence[tuple[str, float | None]] = (), **parameters: dict[str, object]) -> Scheduler:
    config = EndpointPickerConfig(
        api_version="llm-d.ai/v1alpha1",
        kind="EndpointPickerConfig",
        plugins=[
            PluginSpec(type=name, parameters=parameters.get(name.replace("-", "_"), {}))
            for name, _ in profile
        ],
        scheduling_profiles=[
            ProfileSpec(
                name="x", plugins=[PluginRef(plugin_ref=name, weight=weight) for name, weight in profile]
            )
        ]
        if profile
        else [],
    )
    return make_scheduler(config)


WEIGHTED = (
    ("request-load-scorer", 4.0),
    ("kv-cache-utilization-scorer", 2.0),
    ("prefix-cache-scorer", 3.0),
    ("lora-affinity-scorer", 4.0),
    ("max-score-picker", None),
)
REFERENCE = (
    ("queue-scorer", 2.0),
    ("kv-cache-utilization-scorer", 2.0),
    ("prefix-cache-scorer", 3.0),
    ("max-score-picker", None),
)


class World:
    """One run."""

    def __init__(
        self, policy: str, profiles: Sequence[Profile], seed: int, parameters: dict[str, object]
    ) -> None:
        self.now = 1000.0
        self.policy = policy
        self.rng = random.Random(seed)
        self.engines = [Engine(profile) for profile in profiles]
        self.pool = Pool("p", clock=lambda: self.now)
        self.names = [f"10.0.0.{n + 1}:8000" for n in range(len(profiles))]
        self.pool.set_members(Endpoint(name) for name in self.names)
        scheduler = {
            "weighted": lambda: _config(WEIGHTED),
            "reference": lambda: _config(REFERENCE),
        }.get(
            policy,
            lambda: _config((("cost-scorer", 1.0), ("max-score-picker", None)), cost_scorer=parameters),
        )()
        self.director = Director(
            {"p": self.pool},
            scheduler,
            detector=Utilization(),
            objectives={},
            clock=lambda: self.now,
            rng=self.rng,
            observer=Silent(),
            state=Alone(),
        )
        self.turn_of: dict[str, tuple[Turn, int, float, Reservation | None]] = {}
        self.first: dict[str, tuple[float, int]] = {}
        self.outcomes: list[Outcome] = []
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.outstanding = Counter[int]()
        self.next_rr = 0
        self.wake: list[float] = [float("inf")] * len(self.engines)
        for n in range(len(self.engines)):
            self._scrape(n)

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (moment, next(self.order), action))

    def _scrape(self, n: int) -> None:
        engine = self.engines[n]
        self.pool.observe(
            self.names[n],
            Metrics(
                waiting=engine.waiting,
                running=engine.running,
                kv_usage=engine.kv.usage,
                block_size=16,
                num_blocks=engine.profile.kv_blocks,
                scraped_at=self.now,
            ),
        )
        if self.now == 1000.0 or self.turn_of or self.events:
            self._at(self.now + SCRAPE * self.rng.uniform(0.9, 1.1), lambda: self._scrape(n))

    def _choose(self, turn: Turn) -> tuple[int, Reservation | None]:
        if self.policy == "rr":
            self.next_rr += 1
            return self.next_rr % len(self.engines), None
        if self.policy == "least":
            return min(range(len(self.engines)), key=lambda n: (self.outstanding[n], self.rng.random())), None
        ends = iter([end // BYTES_PER_TOKEN for end in BOUNDARIES[:800]])
        digest = Digest(
            "m", True, turn.prompt.tokens * BYTES_PER_TOKEN, turn.max_tokens, turn.prompt.chain(ends)
        )
        reservation = self.director.pick(Ask(digest))
        return self.names.index(reservation.decision.servers[0].address), reservation

    def _submit(self, turn: Turn) -> None:
        n, reservation = self._choose(turn)
        name = str(len(self.outcomes) + len(self.turn_of)) + "/" + str(next(self.order))
        self.turn_of[name] = (turn, n, self.now, reservation)
        self.outstanding[n] += 1
        whole = Prompt((*turn.prompt.runs, turn.answer))
        blocks = whole.chain(iter(range(16, whole.tokens + 1, 16)))
        self._drive(n)
        self.engines[n].submit(Request(name, turn.prompt.tokens, turn.answer[1], blocks), self.now)
        self._plan(n)

    def _drive(self, n: int) -> None:
        for progress in self.engines[n].advance(self.now):
            self._progress(progress)

    def _plan(self, n: int) -> None:
        due = self.engines[n].next_change
        if due < self.wake[n] - 1e-12 or self.wake[n] <= self.now:
            self.wake[n] = due
            if due < float("inf"):
                self._at(due, lambda: self._woken(n, due))

    def _woken(self, n: int, due: float) -> None:
        if self.wake[n] != due:
            return
        self._drive(n)
        self.wake[n] = float("inf")
        self._plan(n)

    def _progress(self, p: Progress) -> None:
        turn, n, started, reservation = self.turn_of[p.id]
        if p.first:
            self.first[p.id] = (p.at, p.cached_tokens)
        if not p.finished:
            return
        del self.turn_of[p.id]
        first, cached = self.first.pop(p.id)
        tokens = turn.answer[1]
        self.outcomes.append(Outcome(n, started, first - started, p.at, turn.prompt.tokens, cached, tokens))
        self._at(
            max(p.at, self.now) + END_KNOWN_AFTER, lambda: self._ended(reservation, n, p.at - started, tokens)
        )
        for then in turn.then:
            self._at(max(p.at, self.now) + then.at, lambda then=then: self._submit(then))  # type: ignore[misc]

    def _ended(self, reservation: Reservation | None, n: int, seconds: float, tokens: int) -> None:
        self.outstanding[n] -= 1
        if reservation is None:
            return
        estimated = max(1, round(tokens * self.rng.uniform(0.9, 1.1)))  # from bytes
        self.pool.finished(
            Finished(
                "p",
                reservation.id,
                self.names[n],
                EndOutcome.COMPLETED,
                status=200,
                seconds=seconds,
                output_tokens=estimated,
            )
        )
        self.director.release("p", reservation.id, Release.ACCESS_LOG)

    def run(self, arrivals: Sequence[tuple[float, Turn]]) -> list[Outcome]:
        """Play `arrivals` and return what became of every request."""
        for at, turn in arrivals:
            self._at(1000.0 + at, lambda turn=turn: self._submit(turn))  # type: ignore[misc]
        left = sum(size(turn) for _, turn in arrivals)
        while self.events and len(self.outcomes) < left:
            self.now, _, action = heapq.heappop(self.events)
            action()
        return self.outcomes
