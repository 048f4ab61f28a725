"""Whether a prompt is worth a server of its own for the prefill."""

from __future__ import annotations

from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation
from services.openai.digest import BYTES_PER_TOKEN, prefix_bytes


@dataclass(frozen=True, slots=True)
class AlwaysDisaggregate:
    """Every prompt: the reference's `always-disagg-pd-decider`."""

    def disaggregate(self, situation: Situation, server: Server) -> bool:  # noqa: ARG002 - Decider
        """Say yes."""
        return True


@dataclass(frozen=True, slots=True)
class PrefixBased:
    """Prompts of which the decoding server lacks at least so many tokens: the reference's `prefix-based-pd-decider`.

    Tokens are estimated at four bytes each.
    """

    non_cached_tokens: int = 0
    """0: never."""

    def __post_init__(self) -> None:
        if self.non_cached_tokens < 0:
            raise ValueError(f"nonCachedTokens must not be negative, got {self.non_cached_tokens}")

    def disaggregate(self, situation: Situation, server: Server) -> bool:
        """Compare what `server` would have to compute with the threshold."""
        cached = prefix_bytes(situation.matches.get(server.slot, 0)) // BYTES_PER_TOKEN
        return 0 < self.non_cached_tokens <= situation.digest.prompt_tokens - cached
