"""The real director and pool: the default profile, and the reference's weighted scorers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from bench.routing.policies.base import Choice, End, Policy, Shed, Surroundings
from bench.routing.turns import Turn
from services.epp.assemble import make_scheduler
from services.epp.config import EndpointPickerConfig
from services.epp.director import Ask, Director
from services.epp.ending import EVENT_BYTES
from services.epp.endpoints import Endpoint, Metrics
from services.epp.pool import Pool
from services.epp.profiles import DEFAULT_PROFILE
from services.epp.records import Ended, EndOutcome, Release, Silent
from services.epp.reference_config import PluginRef, PluginSpec, ProfileSpec
from services.epp.scheduling.interfaces import Scheduler
from services.epp.scheduling.saturation import Utilization
from services.epp.state import Alone, SharedState
from services.extproc.errors import Overloaded

POOL = "p"
PRIORITIES = {"interactive": 10, "bulk": -1}
"""Objectives of the workload with priorities; without one it is 0."""


class Picker(Policy):
    """A director with one pool, told of servers and ends as in production: late, and in bytes."""

    knows_end_after: ClassVar[float] = 0.004
    """Envoy's access log: p99 of the measured delay (design: 1.1 ms p50, 3.8 ms p99)."""
    plugins: ClassVar[Sequence[tuple[str, float | None]]] = (*DEFAULT_PROFILE, ("max-score-picker", None))

    def __init__(
        self,
        around: Surroundings,
        parameters: Mapping[str, Mapping[str, object]] | None = None,
        *,
        noise: float = 0.0,
        state: SharedState | None = None,
        instance: str = "",
    ) -> None:
        super().__init__(around)
        self._noise = noise
        self.pool = Pool(POOL, clock=around.clock)
        self.names = [f"10.0.0.{n + 1}:8000" for n in range(len(around.engines))]
        self._index = {name: n for n, name in enumerate(self.names)}
        self.pool.set_members(Endpoint(name) for name in self.names)
        self.director = Director(
            {POOL: self.pool},
            scheduler_of(self.plugins, parameters or {}),
            detector=Utilization(),
            objectives=PRIORITIES,
            clock=around.clock,
            rng=around.rng,
            observer=Silent(),
            state=state or Alone(),
            instance=instance,
        )

    def choose(self, turn: Turn, ready: Sequence[int]) -> Choice:  # noqa: ARG002 - the pool has its own opinion
        """Ask the director."""
        try:
            reservation = self.director.pick(Ask(turn.digest, objective=turn.objective))
        except Overloaded as error:
            raise Shed from error
        servers = tuple(self._index[server.address] for server in reservation.decision.servers)
        return Choice(servers, reservation.id)

    def ended(self, turn: Turn, choice: Choice, server: int, end: End) -> None:
        """Report what the access log would: times, and the answer's size in bytes."""
        super().ended(turn, choice, server, end)
        length = self.around.rng.uniform(0.9, 1.1)  # words are not all of one length
        off = math.exp(self.around.rng.gauss(0.0, self._noise)) if self._noise else 1.0
        self.director.finish(
            Ended(
                pool=POOL,
                decision=choice.id,
                outcome=EndOutcome.SERVER_FAILED if end.failed else EndOutcome.COMPLETED,
                served=self.names[server],
                status=200,
                attempts=1,
                seconds=end.seconds * off,
                sent_after=0.0,
                answered_after=0.001,
                response_bytes=round(end.output_tokens * (EVENT_BYTES + len(turn.digest.model)) * length),
            ),
            Release.ACCESS_LOG,
        )

    def scraped(self, server: int, metrics: Metrics) -> None:
        """Tell the pool."""
        self.pool.observe(self.names[server], metrics)

    def missed(self, server: int) -> None:
        """Tell the pool."""
        self.pool.miss(self.names[server])


class Reference(Picker):
    """The reference's default weights: queue 2, KV cache 2, prefix 3, on metrics of every 50 ms."""

    scrape_every: ClassVar[float] = 0.05
    plugins: ClassVar[Sequence[tuple[str, float | None]]] = (
        ("queue-scorer", 2.0),
        ("kv-cache-utilization-scorer", 2.0),
        ("prefix-cache-scorer", 3.0),
        ("max-score-picker", None),
    )


def scheduler_of(
    plugins: Sequence[tuple[str, float | None]], parameters: Mapping[str, Mapping[str, object]]
) -> Scheduler:
    """Return the scheduler of a profile of `plugins` with their weights; `parameters` by plugin type."""
    config = EndpointPickerConfig(
        api_version="llm-d.ai/v1alpha1",
        kind="EndpointPickerConfig",
        plugins=[PluginSpec(type=name, parameters=dict(parameters.get(name, {}))) for name, _ in plugins],
        scheduling_profiles=[
            ProfileSpec(
                name="default",
                plugins=[PluginRef(plugin_ref=name, weight=weight) for name, weight in plugins],
            )
        ],
    )
    return make_scheduler(config)
