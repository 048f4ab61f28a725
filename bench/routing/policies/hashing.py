"""Policies that send the same to the same: by the beginning of the prompt, or by the session."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from bench.routing.policies.base import Policy, Surroundings
from bench.routing.turns import Turn

PREFIX_BLOCKS = 16
"""Of the digest, 256 tokens: SMG's `--prefix-token-count`."""
LOAD_FACTOR = 1.25
"""SMG's `--prefix-hash-load-factor`; the bound of "consistent hashing with bounded loads" (Mirrokni et al., 2016)."""
VIRTUAL_NODES = 160
"""Points of each server on the ring: vLLM router's."""


class PrefixHash(Policy):
    """Consistent hash of the first 256 tokens with bounded load: SMG's `prefix_hash`.

    A server with more than 1.25 times the mean of requests in flight is passed over for the next one on the ring.
    """

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        servers = range(len(around.engines))
        self._ring = sorted((_mix(hash((n, node))), n) for n in servers for node in range(VIRTUAL_NODES))
        self._points = [point for point, _ in self._ring]

    def server(self, turn: Turn, ready: Sequence[int]) -> int:
        """Walk the ring from the prompt's point to the first server that is not above the bound."""
        blocks = turn.digest.blocks[:PREFIX_BLOCKS]
        start = bisect.bisect(self._points, _mix(blocks[-1] if blocks else 0))
        bound = LOAD_FACTOR * (1 + sum(self.outstanding[n] for n in ready)) / len(ready)
        for step in range(len(self._ring)):
            n = self._ring[(start + step) % len(self._ring)][1]
            if n in ready and self.outstanding[n] + 1 <= max(1.0, bound):
                return n
        return self.least(ready)


class SessionSticky(Policy):
    """A session stays where it began, which is where fewest requests were: SMG's `manual` with `min_load`."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._home: dict[int, int] = {}

    def server(self, turn: Turn, ready: Sequence[int]) -> int:
        """Look it up, or give it a home."""
        home = self._home.get(turn.session)
        if home is None or home not in ready:
            home = self._home[turn.session] = self.least(ready)
        return home


def _mix(value: int) -> int:
    """Spread `value` over 64 bits: neighbours must not be neighbours on the ring (splitmix64's finaliser)."""
    value &= 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)
