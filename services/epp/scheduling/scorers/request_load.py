"""Servers with fewer requests are better, without a cliff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.inflight import Load
from services.epp.scheduling.interfaces import Situation


@dataclass(frozen=True, slots=True)
class RequestLoad:
    """(least + slack) / (n + slack), where n is a server's requests now and `least` the smallest n of the candidates.

    The best server gets 1; one with `slack` more than an idle one gets 0.5. Between loaded servers the ratio counts:
    30 against 10 is as bad a choice as 300 against 100. Unlike a min-max score, one request more or less moves it a
    little, so that it can be traded against a cached prefix.
    """

    slack: float = 2.0
    """Requests that hardly slow each other down. Small, since a shared prefix must not fill one of many servers."""
    waiting_factor: float = 4.0
    """What a queued request weighs: its server is full, so it costs a wait and not just a slower batch."""

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by what runs and waits."""
        loads = situation.loads
        counts = [self._requests(server, loads[server.slot]) for server in servers]
        least = min(counts) + self.slack
        return [least / (count + self.slack) for count in counts]

    def _requests(self, server: Server, load: Load) -> float:
        """Return what the server has now: its last word corrected by what happened since, at least what we sent."""
        metrics = server.metrics
        now = metrics.running + metrics.waiting + load.unseen - load.finished
        return max(now, load.requests) + (self.waiting_factor - 1) * metrics.waiting
