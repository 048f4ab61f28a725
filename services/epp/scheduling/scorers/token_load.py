"""Fewer tokens in flight are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class TokenLoad:
    """1 - min(1, tokens / threshold): the reference's `token-load-scorer`.

    Tokens are the uncached prompt and the expected answer of everything sent there that has not ended.
    """

    queue_threshold_tokens: int = 4_194_304
    """At which the score is 0: 128 requests of 32K tokens."""

    def __post_init__(self) -> None:
        if self.queue_threshold_tokens < 1:
            raise ValueError(f"queueThresholdTokens must be at least 1, got {self.queue_threshold_tokens}")

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by tokens in flight."""
        loads = [situation.loads[server.slot] for server in servers]
        most = self.queue_threshold_tokens
        return [1.0 - min(1.0, (load.prompt_tokens + load.output_tokens) / most) for load in loads]
