"""Only servers that hold the prompt, as long as they are not much slower for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation
from services.openai.digest import prefix_bytes


@dataclass(frozen=True, slots=True)
class PrefixCacheAffinity:
    """Servers that hold at least `affinity_threshold` of the prompt: the reference's `prefix-cache-affinity-filter`.

    All pass when nobody holds that much, when the request explores, and when the least loaded holder would give its
    first token more than `max_ttft_penalty_ms` later than the least loaded other server.
    """

    affinity_threshold: float = 0.80
    exploration_probability: float = 0.01
    max_ttft_penalty_ms: float = 5000.0
    """0 never gives up the holders."""
    peak_prefill_throughput: float = 15928.0
    """Prompt tokens a second of an idle server; the reference's figure, a 32B model on two H100."""

    def __post_init__(self) -> None:
        if not 0 <= self.affinity_threshold <= 1 or not 0 <= self.exploration_probability <= 1:
            raise ValueError("affinityThreshold and explorationProbability must be from 0 to 1")
        if self.max_ttft_penalty_ms < 0 or self.peak_prefill_throughput <= 0:
            raise ValueError("maxTTFTPenaltyMs must not be negative, and peakPrefillThroughput above 0")

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:
        """Keep the holders, or all."""
        enough = self.affinity_threshold * prefix_bytes(len(situation.digest.blocks))
        holds = {slot for slot, blocks in situation.matches.items() if prefix_bytes(blocks) >= enough}
        sticky = [server for server in servers if server.slot in holds]
        others = [server for server in servers if server.slot not in holds]
        if not sticky or not others or situation.chance < self.exploration_probability:
            return servers
        return servers if self._too_slow(situation, sticky, others) else sticky

    def _too_slow(self, situation: Situation, sticky: Sequence[Server], others: Sequence[Server]) -> bool:
        def first_token(servers: Sequence[Server]) -> float:
            tokens = min(situation.loads[server.slot].prompt_tokens for server in servers)
            return 1000.0 * tokens / self.peak_prefill_throughput

        allowed = self.max_ttft_penalty_ms
        return allowed > 0 and first_token(sticky) - first_token(others) > allowed
