"""Whether a prompt is worth servers of its own for the prefill, or for its images."""

from __future__ import annotations

from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class AlwaysDisaggregate:
    """Every prompt: the reference's `always-disagg-pd-decider`."""

    def disaggregate(self, situation: Situation, server: Server) -> bool:  # noqa: ARG002 - Decider
        """Say yes."""
        return True


@dataclass(frozen=True, slots=True)
class Multimodal:
    """Prompts with images or other files inside them, as data URLs: the reference's `always-disagg-multimodal-decider`.

    Those that are named by a URL elsewhere do not show in the digest.
    """

    def disaggregate(self, situation: Situation, server: Server) -> bool:  # noqa: ARG002 - Decider
        """Say whether the digest counts any."""
        return situation.digest.tokens > 0


@dataclass(frozen=True, slots=True)
class PrefixBased:
    """Prompts of which the decoding server lacks at least so many tokens: the reference's `prefix-based-pd-decider`."""

    non_cached_tokens: int = 0
    """0: never."""

    def __post_init__(self) -> None:
        if self.non_cached_tokens < 0:
            raise ValueError(f"nonCachedTokens must not be negative, got {self.non_cached_tokens}")

    def disaggregate(self, situation: Situation, server: Server) -> bool:
        """Compare what `server` would have to compute with the threshold."""
        digest = situation.digest
        cached = digest.prefix_tokens(situation.matches.get(server.slot, 0))
        return 0 < self.non_cached_tokens <= digest.prompt_tokens - cached
