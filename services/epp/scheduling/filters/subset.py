"""Only servers that the proxy allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class SubsetHint:
    """Obeys the proxy's subset hint, ports included."""

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:
        """Keep the allowed ones."""
        subset = situation.subset
        return servers if subset is None else [server for server in servers if subset.allows(server)]
