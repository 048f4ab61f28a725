"""Servers that hold the beginning of the prompt are better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation
from services.openai.digest import prefix_bytes


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """Matched share of the prompt's complete blocks: the reference's `prefix-cache-scorer`.

    Counted in bytes, because blocks grow along the prompt.
    """

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by what is cached."""
        matches = situation.matches
        if not matches:
            return [0.0] * len(servers)
        whole = prefix_bytes(len(situation.digest.blocks))
        share = {slot: prefix_bytes(blocks) / whole for slot, blocks in matches.items()}
        return [share.get(server.slot, 0.0) for server in servers]
