"""Servers that are meant for prompts of this length are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation

Range = tuple[int, int]
NEUTRAL = 0.5
"""For a server without the label: it takes any length."""


@dataclass(frozen=True, slots=True)
class ContextLength:
    """By the label's ranges of prompt tokens, `min-max[,min-max…]`: the reference's `context-length-aware`.

    In a range of width w: 0.3 + 0.7 × (0.7 / (1 + w / 10000) + 0.3 × headroom / w), so that tight ranges win. Outside,
    d tokens away: 0.3 / (1 + d / 1000). Without a label 0.5; with one that is no range 0.
    """

    label: str = "llm-d.ai/context-length-range"
    enable_filtering: bool = False
    """Whether servers with ranges that the prompt is outside of are passed over altogether."""
    _parsed: dict[str, tuple[Range, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Label values seen so far: as many as the operator wrote."""

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:
        """Keep all, or with `enable_filtering` those in range."""
        if not self.enable_filtering:
            return servers
        tokens = situation.digest.prompt_tokens
        return [s for s in servers if self._fits(s.endpoint.labels.get(self.label), tokens)]

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by range."""
        tokens = situation.digest.prompt_tokens
        return [self._score(server.endpoint.labels.get(self.label), tokens) for server in servers]

    def _fits(self, label: str | None, tokens: int) -> bool:
        return label is None or any(low <= tokens <= high for low, high in self._ranges(label))

    def _score(self, label: str | None, tokens: int) -> float:
        if label is None:
            return NEUTRAL
        return max((_in_range(bounds, tokens) for bounds in self._ranges(label)), default=0.0)

    def _ranges(self, label: str) -> tuple[Range, ...]:
        found = self._parsed.get(label)
        if found is None:
            found = self._parsed[label] = _parse(label)
        return found


def _in_range(bounds: Range, tokens: int) -> float:
    low, high = bounds
    if low <= tokens <= high:
        width = high - low
        if width == 0:
            return 1.0
        return 0.3 + 0.7 * (0.7 / (1 + width / 10_000) + 0.3 * (high - tokens) / width)
    away = low - tokens if tokens < low else tokens - high
    return 0.3 / (1 + away / 1000)


def _parse(label: str) -> tuple[Range, ...]:
    """Return the ranges; none when any of them is none."""
    try:
        ranges = tuple(
            (int(low), int(high)) for low, _, high in (part.partition("-") for part in label.split(","))
        )
    except ValueError:
        return ()
    return ranges if all(low <= high for low, high in ranges) else ()
