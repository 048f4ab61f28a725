"""What every load balancer has."""

from __future__ import annotations

from collections.abc import Sequence

from bench.routing.policies.base import Policy, Surroundings
from bench.routing.turns import Turn


class RoundRobin(Policy):
    """One after the other: Envoy's `ROUND_ROBIN`, a Kubernetes Service in IPVS mode."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._next = 0

    def server(self, turn: Turn, ready: Sequence[int]) -> int:  # noqa: ARG002 - knows nothing of requests
        """Take the next one."""
        self._next += 1
        return ready[self._next % len(ready)]


class Random(Policy):
    """Any server, all alike: Envoy's `RANDOM`, a Kubernetes Service in iptables mode."""

    def server(self, turn: Turn, ready: Sequence[int]) -> int:  # noqa: ARG002 - same
        """Draw one."""
        return self.around.rng.choice(ready)


class LeastRequest(Policy):
    """The server with the fewest requests in flight, over all servers."""

    def server(self, turn: Turn, ready: Sequence[int]) -> int:  # noqa: ARG002 - same
        """Count."""
        return self.least(ready)


class PowerOfTwo(Policy):
    """The better of two random ones: Envoy's `LEAST_REQUEST` with its default `choice_count`, SMG's `power_of_two`."""

    def server(self, turn: Turn, ready: Sequence[int]) -> int:  # noqa: ARG002 - same
        """Draw two and count."""
        return self.least(self.around.rng.sample(ready, min(2, len(ready))))
