"""Prompts that nobody has seen go to whoever got such a prompt longest ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class NoHitLru:
    """By rank, from 1 for never or longest ago to 0 for just now; 0.5 when a server has the prompt's beginning.

    The reference's `no-hit-lru-scorer`: new prompts fill the caches evenly.
    """

    lru_size: int = 1024
    """Servers remembered."""
    _last: OrderedDict[tuple[str, str], None] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )
    """Pool and address, longest ago first."""

    def __post_init__(self) -> None:
        if self.lru_size < 1:
            raise ValueError(f"lruSize must be at least 1, got {self.lru_size}")

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by when each got its last cold prompt."""
        if situation.matches:
            return [0.5] * len(servers)
        if len(servers) == 1:
            return [1.0]
        here = {(situation.pool, server.address) for server in servers}
        order = [key for key in self._last if key in here]
        never = len(servers) - len(order)
        rank = {key: never + position for position, key in enumerate(order)}
        return [
            1.0 - rank.get((situation.pool, server.address), 0) / (len(servers) - 1) for server in servers
        ]

    def chosen(self, situation: Situation, server: Server) -> Sequence[tuple[str, str]]:
        """Remember who got a cold prompt."""
        if not situation.matches:
            key = (situation.pool, server.address)
            self._last[key] = None
            self._last.move_to_end(key)
            if len(self._last) > self.lru_size:
                self._last.popitem(last=False)
        return ()
