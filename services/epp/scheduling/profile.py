"""A scheduling profile: filters in sequence, weighted scorers, a picker."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import (
    Decision,
    Filter,
    Learner,
    Picker,
    Scorer,
    Scores,
    Situation,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class NamedFilter:
    """A filter under the name that the configuration gives it."""

    name: str
    plugin: Filter


@dataclass(frozen=True, slots=True)
class WeightedScorer:
    """A scorer under its configured name, with its share in the total."""

    name: str
    plugin: Scorer
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to decide."""

    name: str
    filters: tuple[NamedFilter, ...]
    scorers: tuple[WeightedScorer, ...]
    picker: Picker
    learners: tuple[Learner, ...] = ()
    """Those of its plugins that want to know what was chosen."""

    def run(self, situation: Situation, servers: Sequence[Server], rng: random.Random) -> Decision:
        """Decide among `servers`."""
        candidates, verdicts = self._filter(situation, servers)
        if not candidates:
            return Decision((), verdicts=verdicts, profile=self.name)
        scores = tuple(_score(scorer, situation, candidates) for scorer in self.scorers)
        totals = _total(scores, len(candidates))
        order = self.picker.pick(situation, totals, rng)
        if not order:
            raise ValueError(
                f"the picker of profile {self.name!r} picked nobody of {len(candidates)} candidates"
            )
        chosen = tuple(candidates[position] for position in order)
        return Decision(chosen, tuple(candidates), tuple(totals), scores, verdicts, self.name)

    def chosen(self, situation: Situation, decision: Decision) -> tuple[tuple[str, str], ...]:
        """Tell the learners."""
        if not self.learners:
            return ()
        server = decision.servers[0]
        return tuple(header for learner in self.learners for header in learner.chosen(situation, server))

    def _filter(
        self, situation: Situation, servers: Sequence[Server]
    ) -> tuple[Sequence[Server], tuple[Verdict, ...]]:
        verdicts = []
        for step in self.filters:
            kept = step.plugin.keep(situation, servers)
            verdicts.append(Verdict(step.name, len(kept), len(servers)))
            servers = kept
            if not servers:
                break
        return servers, tuple(verdicts)


def _score(scorer: WeightedScorer, situation: Situation, servers: Sequence[Server]) -> Scores:
    raw = scorer.plugin.score(situation, servers)
    if len(raw) != len(servers):
        raise ValueError(f"scorer {scorer.name!r} returned {len(raw)} scores for {len(servers)} servers")
    # Written so that NaN, which compares false with everything, comes out as 0.
    bounded = [value if 0.0 <= value <= 1.0 else 1.0 if value > 1.0 else 0.0 for value in raw]
    return Scores(scorer.name, scorer.weight, tuple(bounded))


def _total(scores: Sequence[Scores], count: int) -> list[float]:
    totals = [0.0] * count
    for opinion in scores:
        weight = opinion.weight
        totals = [total + weight * value for total, value in zip(totals, opinion.raw, strict=True)]
    return totals
