"""What the pools and their queues are like at the moment of a scrape, under the reference's names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.epp.flow.control import FlowControl
from services.epp.labels import Labels
from services.epp.pool import Pool
from services.epp.request_metrics import FLOW


class PoolCollector(Collector):
    """Gauges read from the pools at the moment of a scrape. `saturation` asks the detector."""

    def __init__(
        self, pools: Mapping[str, Pool], saturation: Callable[[Pool], float], labels: Labels
    ) -> None:
        self._pools = pools
        self._saturation = saturation
        self._labels = labels

    def collect(self) -> Iterable[Metric]:
        """Yield every gauge."""
        for name, text, value in (
            ("inference_pool_ready_pods", "Servers that answer.", _ready),
            ("inference_pool_average_queue_size", "Mean queue of the ready servers.", _mean_waiting),
            ("inference_pool_average_running_requests", "Mean batch of the ready servers.", _mean_running),
            ("inference_pool_average_kv_cache_utilization", "Mean KV usage of the ready servers.", _mean_kv),
            ("epp_pool_saturation", "0 idle, 1 and more saturated.", self._saturation),
            ("epp_prefix_blocks", "Different blocks in the prefix index.", lambda pool: len(pool.prefixes)),
        ):
            family = GaugeMetricFamily(name, text, labels=("name",))
            for pool in self._pools.values():
                family.add_metric((pool.name,), value(pool))
            yield family
        yield GaugeMetricFamily(
            "inference_extension_prefix_indexer_size",
            "Different blocks in the prefix indexes of all pools.",
            value=sum(len(pool.prefixes) for pool in self._pools.values()),
        )
        yield from self._by_server()
        yield self._by_model()
        repaired = CounterMetricFamily(
            "epp_inflight_repaired", "Requests whose end nobody told.", labels=("pool",)
        )
        for pool in self._pools.values():
            repaired.add_metric((pool.name,), pool.repaired)
        yield repaired

    def _by_server(self) -> Iterable[Metric]:
        labels = ("pool", "endpoint")
        requests = GaugeMetricFamily(
            "epp_inflight_requests", "Requests sent from here and not ended.", labels=labels
        )
        tokens = GaugeMetricFamily(
            "epp_inflight_prompt_tokens", "Their uncached prompt tokens.", labels=labels
        )
        queues = GaugeMetricFamily(
            "inference_pool_per_pod_queue_size", "A server's queue.", labels=("name", "model_server_pod")
        )
        for pool in self._pools.values():
            for server in pool.snapshot.servers:
                queues.add_metric((pool.name, server.address), server.metrics.waiting)
                load = pool.inflight.own[server.slot]
                requests.add_metric((pool.name, server.address), load.requests)
                tokens.add_metric((pool.name, server.address), load.prompt_tokens)
        return requests, tokens, queues

    def _by_model(self) -> Metric:
        running = Counter(
            self._labels.model(entry.model) for pool in self._pools.values() for entry in pool.inflight
        )
        family = GaugeMetricFamily(
            "inference_objective_running_requests", "Requests sent and not ended.", labels=("model_name",)
        )
        for model, number in running.items():
            family.add_metric((model,), number)
        return family


class FlowCollector(Collector):
    """What waits at the gates, and how full their pools are."""

    def __init__(
        self,
        flow: FlowControl,
        pools: Mapping[str, Pool],
        saturation: Callable[[Pool], float],
        labels: Labels,
    ) -> None:
        self._flow = flow
        self._pools = pools
        self._saturation = saturation
        self._labels = labels

    def collect(self) -> Iterable[Metric]:
        """Yield every gauge."""
        prefix = "inference_extension_flow_control"
        requests = GaugeMetricFamily(f"{prefix}_queue_size", "Requests that wait.", labels=FLOW)
        size = GaugeMetricFamily(f"{prefix}_queue_bytes", "Bytes of their prompts.", labels=FLOW)
        sums: Counter[tuple[str, str, str, str, str]] = Counter()
        sizes: Counter[tuple[str, str, str, str, str]] = Counter()
        for waiting in self._flow.waiting():
            model, flow = self._labels.model(waiting.model), self._labels.fairness(waiting.flow)
            key = (flow, str(waiting.priority), waiting.pool, model, model)
            sums[key] += waiting.requests
            sizes[key] += waiting.bytes
        for key, number in sums.items():
            requests.add_metric(key, number)
            size.add_metric(key, sizes[key])
        full = GaugeMetricFamily(
            f"{prefix}_pool_saturation", "0 idle, 1 and more saturated.", labels=("inference_pool",)
        )
        for pool in self._pools.values():
            full.add_metric((pool.name,), self._saturation(pool))
        return requests, size, full


def _ready(pool: Pool) -> float:
    return sum(server.ready for server in pool.snapshot.servers)


def _mean(pool: Pool, values: Iterable[float]) -> float:
    return sum(values) / (_ready(pool) or 1)


def _mean_waiting(pool: Pool) -> float:
    return _mean(pool, (server.metrics.waiting for server in pool.snapshot.servers if server.ready))


def _mean_running(pool: Pool) -> float:
    return _mean(pool, (server.metrics.running for server in pool.snapshot.servers if server.ready))


def _mean_kv(pool: Pool) -> float:
    return _mean(pool, (server.metrics.kv_usage for server in pool.snapshot.servers if server.ready))
