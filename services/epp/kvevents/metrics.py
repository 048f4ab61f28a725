"""Count KV events, what is wrong with them, and what they make of the exact index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.epp.kvevents.records import Passed, ReplayOutcome, Trouble
from services.epp.pool import Pool


class KvEventMetrics:
    """An `Observer` over metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._trouble = Counter(
            "epp_kv_event_trouble",
            "Gaps, losses, restarts and unreadable messages of KV events.",
            ("pool", "kind"),
            registry=registry,
        )
        self._replays = Counter(
            "epp_kv_event_replays", "Replays of KV events by outcome.", ("pool", "outcome"), registry=registry
        )
        self._passed = Counter(
            "epp_kv_events_passed_over", "KV events that do not count.", ("pool", "why"), registry=registry
        )

    def trouble(self, pool: str, kind: Trouble, count: int) -> None:
        """Count by kind."""
        self._trouble.labels(pool, kind.value).inc(count)

    def replayed(self, pool: str, outcome: ReplayOutcome) -> None:
        """Count by outcome."""
        self._replays.labels(pool, outcome.value).inc()

    def passed_over(self, pool: str, why: Passed, count: int) -> None:
        """Count by reason."""
        self._passed.labels(pool, why.value).inc(count)


class KvCollector(Collector):
    """The exact index at the moment of a scrape."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools

    def collect(self) -> Iterable[Metric]:
        """Yield every gauge and counter."""
        blocks = GaugeMetricFamily(
            "epp_kv_blocks", "Blocks that a server says it holds.", labels=("pool", "endpoint")
        )
        views = GaugeMetricFamily(
            "epp_kv_views", "Servers by what is known of them.", labels=("pool", "state")
        )
        events = CounterMetricFamily("epp_kv_event_blocks", "Blocks in KV events.", labels=("pool", "event"))
        asked = CounterMetricFamily(
            "epp_prefix_lookups",
            "Lookups by how much of the prompt was known in tokens.",
            labels=("pool", "known"),
        )
        trust = GaugeMetricFamily(
            "epp_kv_trust",
            "Share of prompts, lately, of which servers told soon after they got them; the model that has the least.",
            labels=("pool",),
        )
        for pool in self._pools.values():
            trust.add_metric((pool.name,), pool.exact.least_trust)
            exact, servers = pool.exact, pool.snapshot.servers
            states = [exact.whole(server.slot) for server in servers]
            for state, value in (("whole", True), ("partial", False), ("none", None)):
                views.add_metric((pool.name, state), states.count(value))
            for server in servers:
                blocks.add_metric((pool.name, server.address), exact.size(server.slot))
            for event in ("stored", "removed", "cleared", "orphans"):
                events.add_metric((pool.name, event), getattr(exact.counts, event))
            for known in ("all", "beginning", "nothing"):
                asked.add_metric((pool.name, known), pool.lookups[known])
        return blocks, views, events, asked, trust
