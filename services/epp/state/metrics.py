"""What the exchange does, as metrics `epp_state_…`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.epp.state.lag import Lag
from services.epp.state.share import Share

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.045, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0)


class Lags:
    """Makes the `Lag` of each pool."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._published, self._visible, self._applied = (
            Histogram(f"epp_state_{name}_seconds", text, ("pool",), buckets=SECONDS, registry=registry)
            for name, text in (
                ("publish", "From the first news of a batch until Redis has it."),
                ("visible", "From the first pick of another replica's batch until it is known here."),
                ("apply", "Age of others' news when they are taken in, by the clock of Redis."),
            )
        )

    def of(self, pool: str) -> Lag:
        """Return the one of `pool`."""
        return Lag(
            published=self._published.labels(pool).observe,
            visible=self._visible.labels(pool).observe,
            applied=self._applied.labels(pool).observe,
        )


class StateCollector(Collector):
    """Figures read from the shares at the moment of a scrape."""

    def __init__(self, shares: Mapping[str, Share], degraded: Callable[[], float]) -> None:
        self._shares = shares
        self._degraded = degraded

    def collect(self) -> Iterable[Metric]:
        """Yield every figure."""
        yield CounterMetricFamily("epp_state_degraded_seconds", "Time without Redis.", value=self._degraded())
        counters = {
            name: CounterMetricFamily(f"epp_state_{name}", text, labels=labels)
            for name, text, labels in (
                ("batches_in", "Batches read, our own included.", ("pool",)),
                ("entries", "Entries told and taken in.", ("pool", "direction")),
                ("bytes", "Their size; what is read includes our own.", ("pool", "direction")),
                ("dropped", "News that nobody was told because too much waited.", ("pool",)),
                ("takeovers", "Servers asked from here because their scraper fell silent.", ("pool",)),
                ("unreadable", "Batches that were left out.", ("pool", "reason")),
            )
        }
        living = GaugeMetricFamily(
            "epp_state_replicas", "Replicas that live, with this one.", labels=("pool",)
        )
        for pool, share in self._shares.items():
            heard, outbox = share.inbox.heard, share.outbox
            counters["batches_in"].add_metric((pool,), heard.batches)
            counters["entries"].add_metric((pool, "in"), heard.entries)
            counters["entries"].add_metric((pool, "out"), outbox.told)
            counters["bytes"].add_metric((pool, "in"), heard.bytes)
            counters["bytes"].add_metric((pool, "out"), share.bytes)
            counters["dropped"].add_metric((pool,), outbox.dropped)
            counters["takeovers"].add_metric((pool,), share.takeovers)
            counters["unreadable"].add_metric((pool, "unknown_version"), heard.unknown)
            counters["unreadable"].add_metric((pool, "corrupt"), heard.corrupt)
            living.add_metric((pool,), 1 + len(share.inbox.living))
        yield from counters.values()
        yield living
