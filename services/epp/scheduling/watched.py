"""Plugins as a running picker calls them: timed now and then, and contained where they come from elsewhere.

What a third party's plugin raises, or gives that cannot be, must not cost a request: it counts as if it had nothing to
say. A built-in plugin that raises is a bug, and passes.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from services.epp.endpoints import Server
from services.epp.inflight import Load
from services.epp.scheduling.interfaces import Decider, Detector, Filter, Learner, Picker, Scorer, Situation
from services.epp.scheduling.pickers.max_score import MaxScore
from services.epp.scheduling.saturation import Utilization
from services.extproc.errors import ExtProcError

EVERY = 16
"""One call in so many is timed, by each plugin's own count: a histogram takes longer than most plugins."""

T = TypeVar("T")


class Point(enum.StrEnum):
    """Where a plugin is called, in the reference's words (`extension_point`)."""

    FILTER = "Filter"
    SCORER = "Scorer"
    PICKER = "Picker"
    CHOSEN = "PreRequest"
    DECIDER = "Decider"
    DETECTOR = "SaturationDetector"


@dataclass(frozen=True, slots=True)
class Label:
    """One plugin at one point."""

    point: Point
    type: str
    name: str


class Watch(Protocol):
    """Whoever wants to know how plugins do."""

    def now(self) -> float:
        """Return a reading of a clock, in seconds."""

    def took(self, plugin: Label, seconds: float) -> None:
        """Note how long a call took."""

    def raised(self, plugin: Label, error: Exception) -> None:
        """Note what a third party's plugin did wrong."""


class Watched:
    """One plugin. `outside`: it is a third party's."""

    __slots__ = ("_calls", "_label", "_watch", "outside")

    def __init__(self, label: Label, watch: Watch, *, outside: bool) -> None:
        self._label = label
        self._watch = watch
        self._calls = 0
        self.outside = outside

    def skips(self) -> bool:
        """Say whether the next call needs no watching: most calls of our own plugins, which then cost nothing more."""
        self._calls += 1
        return not self.outside and self._calls % EVERY != 0

    def call(self, plugin: Callable[[], T], instead: Callable[[], T]) -> T:
        """Return what `plugin` gives, or `instead` where it fails and may. Its own refusal of a request passes.

        Called after `skips` has said no.
        """
        began = self._watch.now() if self._calls % EVERY == 0 else None
        try:
            return plugin()
        except ExtProcError:
            raise
        except Exception as error:  # a third party's plugin is contained
            if not self.outside:
                raise
            self._watch.raised(self._label, error)
            return instead()
        finally:
            if began is not None:
                self._watch.took(self._label, self._watch.now() - began)


@dataclass(frozen=True, slots=True)
class WatchedFilter:
    """Without an answer, all pass."""

    plugin: Filter
    watched: Watched

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:
        """Keep what the plugin keeps."""
        if self.watched.skips():
            return self.plugin.keep(situation, servers)
        return self.watched.call(lambda: self._keep(situation, servers), lambda: servers)

    def _keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:
        kept = self.plugin.keep(situation, servers)
        if self.watched.outside and not set(map(id, kept)) <= set(map(id, servers)):
            raise ValueError("it kept what was no candidate")
        return kept


@dataclass(frozen=True, slots=True)
class WatchedScorer:
    """Without an answer, 0 for all."""

    plugin: Scorer
    watched: Watched

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score as the plugin does."""
        if self.watched.skips():
            return self.plugin.score(situation, servers)
        return self.watched.call(lambda: self._score(situation, servers), lambda: [0.0] * len(servers))

    def _score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        scores = self.plugin.score(situation, servers)
        if not self.watched.outside:
            return scores
        if len(scores) != len(servers):
            raise ValueError(f"it gave {len(scores)} scores for {len(servers)} servers")
        return [float(score) for score in scores]


@dataclass(frozen=True, slots=True)
class WatchedPicker:
    """Without an answer, the highest sums."""

    plugin: Picker
    watched: Watched

    def pick(self, situation: Situation, totals: Sequence[float], rng: random.Random) -> Sequence[int]:
        """Pick as the plugin does."""
        if self.watched.skips():
            return self.plugin.pick(situation, totals, rng)
        return self.watched.call(
            lambda: self._pick(situation, totals, rng), lambda: MaxScore().pick(situation, totals, rng)
        )

    def _pick(self, situation: Situation, totals: Sequence[float], rng: random.Random) -> Sequence[int]:
        order = self.plugin.pick(situation, totals, rng)
        possible = set(order) <= set(range(len(totals))) and len(set(order)) == len(order) > 0
        if self.watched.outside and not possible:
            raise ValueError(f"it picked {list(order)[:8]} of {len(totals)} candidates")
        return order


@dataclass(frozen=True, slots=True)
class WatchedLearner:
    """Without an answer, no headers."""

    plugin: Learner
    watched: Watched

    def chosen(self, situation: Situation, server: Server) -> Sequence[tuple[str, str]]:
        """Tell the plugin."""
        if self.watched.skips():
            return self.plugin.chosen(situation, server)
        return self.watched.call(lambda: self.plugin.chosen(situation, server), tuple)


@dataclass(frozen=True, slots=True)
class WatchedDecider:
    """Without an answer, no stage of its own."""

    plugin: Decider
    watched: Watched

    def disaggregate(self, situation: Situation, server: Server) -> bool:
        """Decide as the plugin does."""
        if self.watched.skips():
            return self.plugin.disaggregate(situation, server)
        return self.watched.call(lambda: self.plugin.disaggregate(situation, server), bool)


@dataclass(frozen=True, slots=True)
class WatchedDetector:
    """Without an answer, what the default detector says."""

    plugin: Detector
    watched: Watched

    def saturation(self, now: float, servers: Sequence[Server], loads: Sequence[Load] = ()) -> float:
        """Say what the plugin says."""
        if self.watched.skips():
            return self.plugin.saturation(now, servers, loads)
        return self.watched.call(
            lambda: float(self.plugin.saturation(now, servers, loads)),
            lambda: Utilization().saturation(now, servers, loads),
        )
