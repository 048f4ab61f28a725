"""Servers that are near are better: near the gateway, or near the server that will decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation

HOST = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
REGION = "topology.kubernetes.io/region"


@dataclass(frozen=True, slots=True)
class ZoneAffinity:
    """1 in the gateway's own zone, `other_score` elsewhere: traffic between zones costs money and a millisecond.

    By the server's label `topology.kubernetes.io/zone`. All are equal when the gateway's zone is not known.
    """

    zone: str = ""
    """The gateway's zone, if not the one that the process was started with."""
    other_score: float = 0.0

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by zone."""
        own = self.zone or situation.zone
        if not own:
            return [1.0] * len(servers)
        return [1.0 if s.endpoint.labels.get(ZONE) == own else self.other_score for s in servers]


@dataclass(frozen=True, slots=True)
class TopologyAffinity:
    """By the nearest level shared with the decoding server: the reference's `topology-affinity-scorer`.

    Same host 1, rack 0.2, zone 0.05, region 0.02, else 0: the ratios follow the bandwidth for moving a KV cache. A
    label that is missing matches nothing. Outside the prefill profile there is no such server, and all get 0.
    """

    rack_label: str = ""
    """No label for racks is standard; empty: racks are not told apart."""

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by nearness to the peer."""
        if situation.peer is None:
            return [0.0] * len(servers)
        peer = situation.peer.endpoint.labels
        return [self._score(server.endpoint.labels, peer) for server in servers]

    def _score(self, labels: Mapping[str, str], peer: Mapping[str, str]) -> float:
        for label, score in ((HOST, 1.0), (self.rack_label, 0.2), (ZONE, 0.05), (REGION, 0.02)):
            value = peer.get(label)
            if value and labels.get(label) == value:
                return score
        return 0.0
