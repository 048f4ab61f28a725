"""The routers that know what each server has cached: with imbalance thresholds, and with the expected wait."""

from __future__ import annotations

from collections.abc import Sequence

from bench.routing.policies.base import Choice, Policy, Surroundings
from bench.routing.policies.informed import Informed
from bench.routing.turns import Turn
from services.epp.endpoints import Metrics
from services.epp.prefix import PrefixIndex
from services.openai.digest import BYTES_PER_TOKEN, prefix_bytes

THRESHOLD, ABSOLUTE, RELATIVE = 0.5, 32, 1.1
"""`cache_threshold`, `balance_abs_threshold` and `balance_rel_threshold` as sglang-router's documents have them."""
ENDLESS = 1 << 60
"""Bytes: such a router's tree is bounded by far more than a server's cache."""


class CacheAware(Policy):
    """sglang-router's `cache_aware`: affinity while balanced, shortest queue while not.

    Imbalanced is max - min > 32 and max > 1.1 × min of the requests in flight. While balanced, the server with the
    longest match gets the request if more than half of the prompt matches, else the one whose tree is smallest.
    """

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._tree = PrefixIndex(ENDLESS, ENDLESS)

    def server(self, turn: Turn, ready: Sequence[int]) -> int:
        """Decide by the thresholds."""
        loads = [self.outstanding[n] for n in ready]
        if max(loads) - min(loads) > ABSOLUTE and max(loads) > RELATIVE * min(loads):
            return self.least(ready)
        blocks = turn.digest.blocks
        matches = self._tree.match(blocks)
        best = max(ready, key=lambda n: matches.get(n, 0))
        if blocks and prefix_bytes(matches.get(best, 0)) > THRESHOLD * turn.digest.prompt_bytes:
            return best
        return min(ready, key=self._tree.size)

    def sent(self, turn: Turn, choice: Choice, server: int) -> None:
        """Put the prompt into the server's tree."""
        super().sent(turn, choice, server)
        self._tree.record(server, turn.digest.blocks)

    def missed(self, server: int) -> None:
        """Take a server that is away out of the tree."""
        self._tree.clear(server)


SMG_THRESHOLD = 0.3
SPILL_RELATIVE, SPILL_ABSOLUTE = 1.5, 64
"""SMG's defaults: `cache_threshold`, and how far above the mean of requests a server loses a match's request."""
THROUGHPUT = 2000.0
"""Tokens per second that queued tokens are divided by: SMG's default where a server does not report it."""
KV_WEIGHT = 0.15
"""Seconds for each unit of usage / (1 - usage)."""


class Smg(Informed):
    """SMG's `cache_aware` of 2026: longest match, with the expected wait between equals and below the threshold.

    Expected wait = (queued uncached tokens + those sent since the last poll) / throughput + 0.15 s × usage / (1 - usage).
    The longest match loses the request when its server has more than 1.5 times the mean of requests and 64 more than
    it. The tree is fed with what was sent and forgets like the servers do; queued tokens are the servers' own count.
    """

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._tree = PrefixIndex(around.engines[0].profile.max_model_len * BYTES_PER_TOKEN, ENDLESS)
        self._polled = [0.0] * len(around.engines)
        self._credit = [0.0] * len(around.engines)
        self._usage = [0.0] * len(around.engines)

    def server(self, turn: Turn, ready: Sequence[int]) -> int:
        """Take the longest match unless it is short or under pressure, else the least expected wait."""
        matches = self._tree.match(turn.digest.blocks)
        longest = max(matches.get(n, 0) for n in ready)
        if prefix_bytes(longest) <= SMG_THRESHOLD * turn.digest.prompt_bytes:
            return self._soonest(ready)
        chosen = self._soonest([n for n in ready if matches.get(n, 0) == longest])
        mean, load = sum(self.outstanding[n] for n in ready) / len(ready), self.outstanding[chosen]
        if load > SPILL_RELATIVE * mean and load > SPILL_ABSOLUTE + mean:
            return self._soonest(ready)
        return chosen

    def sent(self, turn: Turn, choice: Choice, server: int) -> None:
        """Count what the server has to compute until the next poll, and put the prompt into its tree."""
        super().sent(turn, choice, server)
        blocks = turn.digest.blocks
        found = turn.digest.prefix_tokens(self._tree.match(blocks).get(server, 0))
        self._credit[server] += turn.prompt_tokens - found
        self._tree.record(server, blocks)

    def scraped(self, server: int, metrics: Metrics) -> None:
        """Take in the load; what was sent before is in it."""
        self._polled[server] = self.uncomputed[server]
        self._credit[server] = 0.0
        self._usage[server] = metrics.kv_usage

    def missed(self, server: int) -> None:
        """Take a server that is away out of the tree."""
        self._tree.clear(server)

    def _soonest(self, among: Sequence[int]) -> int:
        waits = {n: self._wait(n) for n in among}
        least = min(waits.values())
        return self.around.rng.choice([n for n in among if waits[n] == least])

    def _wait(self, n: int) -> float:
        usage = min(self._usage[n], 0.999)
        return (self._polled[n] + self._credit[n]) / THROUGHPUT + KV_WEIGHT * usage / (1 - usage)
