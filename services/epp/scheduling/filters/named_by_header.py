"""Only servers that a request names: for tests of gateways, not for the public."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation
from services.epp.scheduling.subset import parse

SELECTION = "test-epp-endpoint-selection"


@dataclass(frozen=True, slots=True)
class NamedByHeader:
    """The servers in the header `test-epp-endpoint-selection`: the reference's `header-based-testing-filter`.

    A comma list of `ip` (every port) and `ip:port`, IPv6 in brackets. Without the header nobody passes.
    """

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:
        """Keep the named ones."""
        named = parse(situation.headers.get(SELECTION) or "")
        return [server for server in servers if named is not None and named.allows(server)]
