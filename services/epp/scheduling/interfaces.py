"""What a plugin gets and gives. A plugin is a frozen dataclass whose fields are its parameters.

Every method is synchronous, fast, and free of side effects: its answer depends on its arguments alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from services.epp.cost.pace import Pace
from services.epp.cost.typical import Typical
from services.epp.endpoints import Server
from services.epp.inflight import Load
from services.epp.scheduling.subset import Subset
from services.extproc.events import Headers
from services.openai.digest import Digest

PREFILLER = "x-prefiller-host-port"
"""Tells the decoding server's sidecar where to have the prompt's cache computed (llm-d's P/D protocol)."""


ENCODERS = "x-encoder-hosts-ports"
"""Tells it who may encode the request's images: a comma list, shared out by the sidecar."""


@dataclass(frozen=True, slots=True)
class Situation:
    """One request and what is known at the moment of its decision."""

    digest: Digest
    now: float
    """A reading of the monotonic clock, in seconds; comparable with `Metrics.scraped_at`."""
    loads: Sequence[Load] = ()
    """What is in flight, by `Server.slot`."""
    paces: Sequence[Pace] = ()
    """How fast each server is, by `Server.slot`."""
    typical: Typical = field(default_factory=Typical)
    """What requests of this pool are like."""
    matches: Mapping[int, int] = field(default_factory=dict)
    """`Server.slot` → how many of `digest.blocks` it holds from the first on, without a gap. Absent: none."""
    headers: Headers = field(default_factory=Headers)
    base_model: str = ""
    """The model under the adapter, where the router in front says so; else empty."""
    subset: Subset | None = None
    """The servers that the proxy allows; None allows all."""
    priority: int = 0
    pool: str = ""
    zone: str = ""
    """Where this gateway runs, as the servers' label `topology.kubernetes.io/zone` spells it; empty when not told."""
    chance: float = 1.0
    """One uniform draw from [0, 1) for this request: filters that explore compare with it. 1 never explores."""
    goes_on: bool = False
    """It is the next turn of a conversation that had one a minute ago or less."""
    peer: Server | None = None
    """The server that will decode, while one for the prefill is looked for."""


@runtime_checkable
class Filter(Protocol):
    """Narrows down the candidates."""

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:
        """Return those of `servers` that may serve, in the same order. Returning none refuses the request."""


@runtime_checkable
class Scorer(Protocol):
    """Rates the candidates by one aspect."""

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Return one score for each of `servers`, in their order, from 0 (worst) to 1 (best).

        The profile moves what lies outside to the nearer bound, and takes NaN for 0.
        """


@runtime_checkable
class Picker(Protocol):
    """Turns total scores into a choice."""

    def pick(self, situation: Situation, totals: Sequence[float], rng: random.Random) -> Sequence[int]:
        """Return the positions in `totals` to try, best first; at least one, none twice. `rng` is all its chance."""


@runtime_checkable
class Learner(Protocol):
    """A plugin that remembers what was decided. The only thing about it that changes."""

    def chosen(self, situation: Situation, server: Server) -> Sequence[tuple[str, str]]:
        """Note that `server` gets the request. Return headers for the answer, where the proxy shows it to us."""


@runtime_checkable
class Detector(Protocol):
    """Says how full a pool is."""

    def saturation(self, now: float, servers: Sequence[Server], loads: Sequence[Load] = ()) -> float:
        """Return 0 for idle, 1 and more for saturated. `loads` is what is in flight, by `Server.slot`."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One scorer's opinion."""

    plugin: str
    weight: float
    raw: tuple[float, ...]
    """By candidate, clamped to [0, 1], not yet weighted."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one filter left."""

    plugin: str
    kept: int
    of: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The choice and all that led to it."""

    servers: tuple[Server, ...]
    """To be tried in this order; empty when a filter left nobody."""
    candidates: tuple[Server, ...] = ()
    """Those that were scored; `totals` and every `Scores.raw` are in this order."""
    totals: tuple[float, ...] = ()
    scores: tuple[Scores, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    profile: str = ""
    prefill: Decision | None = None
    """The choice of a server that computes the prompt's cache first; the request itself goes to `servers`."""
    encode: Decision | None = None
    """The choice of servers that turn its images into embeddings first."""
    staged: bool = False
    """Somebody has decided whether there are such stages."""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What the server must be told, as request headers."""
        headers = ((PREFILLER, self.prefill.servers[0].address),) if self.prefill else ()
        if self.encode is None:
            return headers
        return (*headers, (ENCODERS, ",".join(server.address for server in self.encode.servers)))

    @property
    def stages(self) -> str:
        """The stages in the reference's words (`decision_type`); empty where nobody decides on stages."""
        if not self.staged:
            return ""
        names = [name for name, stage in (("encode", self.encode), ("prefill", self.prefill)) if stage]
        return "-".join((*names, "decode")) if names else "decode-only"


class Scheduler(Protocol):
    """Decides. A profile is one, and so is what a profile handler makes of several."""

    def run(self, situation: Situation, servers: Sequence[Server], rng: random.Random) -> Decision:
        """Decide among `servers`. Raises `ExtProcError` when the request asks for what there is not."""

    def chosen(self, situation: Situation, decision: Decision) -> tuple[tuple[str, str], ...]:
        """Let the plugins learn that `decision` is carried out; return their headers for the answer."""


@runtime_checkable
class ProfileHandler(Protocol):
    """Makes one scheduler of the configured profiles."""

    def bind(self, profiles: Mapping[str, Scheduler], plugins: Mapping[str, object]) -> Scheduler:
        """Return the scheduler; `plugins` are all that are declared, by name. ValueError when they do not fit."""


@runtime_checkable
class Decider(Protocol):
    """Says whether a stage of disaggregated serving is worth it."""

    def disaggregate(self, situation: Situation, server: Server) -> bool:
        """Say whether another server than `server`, which will decode, should compute the prompt's cache."""
