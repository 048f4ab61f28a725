"""What a plugin gets and gives. A plugin is a frozen dataclass whose fields are its parameters.

Every method is synchronous, fast, and free of side effects: its answer depends on its arguments alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from services.epp.endpoints import Server
from services.epp.inflight import Load
from services.epp.scheduling.subset import Subset
from services.extproc.events import Headers
from services.openai.digest import Digest


@dataclass(frozen=True, slots=True)
class Situation:
    """One request and what is known at the moment of its decision."""

    digest: Digest
    now: float
    """A reading of the monotonic clock, in seconds; comparable with `Metrics.scraped_at`."""
    loads: Sequence[Load] = ()
    """What is in flight, by `Server.slot`."""
    matches: Mapping[int, int] = field(default_factory=dict)
    """`Server.slot` → how many of `digest.blocks` it holds from the first on, without a gap. Absent: none."""
    headers: Headers = field(default_factory=Headers)
    base_model: str = ""
    """The model under the adapter, where the router in front says so; else empty."""
    subset: Subset | None = None
    """The servers that the proxy allows; None allows all."""
    priority: int = 0


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
class Detector(Protocol):
    """Says how full a pool is."""

    def saturation(self, now: float, servers: Sequence[Server]) -> float:
        """Return 0 for idle, 1 and more for saturated."""


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
