"""Only servers with a part in disaggregated serving, by their label `llm-d.ai/role`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation

ROLE = "llm-d.ai/role"

_ALL = "encode-prefill-decode"
_DECODE = frozenset({"decode", "prefill-decode", "both", _ALL, None})
_PREFILL = frozenset({"prefill", "encode-prefill", "prefill-decode", "both", _ALL})
_ENCODE = frozenset({"encode", "encode-prefill", _ALL})
"""The roles and their parts are llm-d's; `both` is its old word for `prefill-decode`."""


@dataclass(frozen=True, slots=True)
class DecodeRole:
    """Servers that decode, and those without a role: the reference's `decode-filter`."""

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:  # noqa: ARG002 - Filter
        """Keep them."""
        return [server for server in servers if server.endpoint.labels.get(ROLE) in _DECODE]


@dataclass(frozen=True, slots=True)
class PrefillRole:
    """Servers that prefill; not those without a role: the reference's `prefill-filter`."""

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:  # noqa: ARG002 - Filter
        """Keep them."""
        return [server for server in servers if server.endpoint.labels.get(ROLE) in _PREFILL]


@dataclass(frozen=True, slots=True)
class EncodeRole:
    """Servers that encode images; not those without a role: the reference's `encode-filter`."""

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:  # noqa: ARG002 - Filter
        """Keep them."""
        return [server for server in servers if server.endpoint.labels.get(ROLE) in _ENCODE]
