"""Count what the picker reports, under the reference's names: its dashboards work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.epp.endpoints import split
from services.epp.pool import Pool
from services.epp.records import Ended, EndOutcome, Pick, PickOutcome, Release, ScrapeError

MAX_MODELS = 1000
"""Different model names as label values, as in the reference; further ones are counted as `other`."""

_SCHEDULER = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_RATIO = tuple(step / 10 for step in range(11))
_LATENCY = (
    0.005,
    0.025,
    0.05,
    0.1,
    0.2,
    0.4,
    0.6,
    0.8,
    1,
    1.25,
    1.5,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    15,
    20,
    30,
    45,
    60,
    120,
)


class PrometheusObserver:
    """An `Observer` over metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._models: set[str] = set()
        self._requests = Counter(
            "inference_objective_request",
            "Requests by model and priority.",
            ("model_name", "target_model_name", "priority"),
            registry=registry,
        )
        self._attempts = Counter(
            "inference_extension_scheduler_attempts",
            "Picks by result and chosen server.",
            ("status", "target_model_name", "pod_name", "namespace", "port"),
            registry=registry,
        )
        self._seconds = Histogram(
            "inference_extension_scheduler_e2e_duration_seconds",
            "Time from question to pick.",
            buckets=_SCHEDULER,
            registry=registry,
        )
        self._hits = Histogram(
            "inference_extension_prefix_indexer_hit_ratio",
            "Share of the prompt that the chosen server is believed to hold.",
            buckets=_RATIO,
            registry=registry,
        )
        self._releases = Counter(
            "epp_releases", "Requests taken off their server's load.", ("pool", "by"), registry=registry
        )
        self._ends = Counter("epp_ends", "Ends in the access log.", ("pool", "outcome"), registry=registry)
        self._first_byte = Histogram(
            "epp_time_to_first_byte_seconds",
            "From the request's first byte to the server until the answer's first byte.",
            ("pool",),
            buckets=_LATENCY,
            registry=registry,
        )
        self._scrape_errors = Counter(
            "epp_scrape_errors", "Scrapes that gave nothing.", ("pool", "error"), registry=registry
        )
        self._scrape_seconds = Histogram(
            "epp_scrape_duration_seconds", "Duration of a successful scrape.", ("pool",), registry=registry
        )
        self._resolve_errors = Counter(
            "epp_resolve_errors", "Names that did not resolve.", ("pool",), registry=registry
        )
        self._redis = Gauge("epp_redis_up", "Whether Redis answers; 0 also without one.", registry=registry)
        self._membership = Counter(
            "epp_membership_answers",
            "The proxy's answers to pushed membership.",
            ("answer",),
            registry=registry,
        )

        self._reloads = Counter(
            "epp_config_reloads", "Changed configuration files.", ("result",), registry=registry
        )
        self._reloaded = Gauge(
            "epp_config_last_reload_successful",
            "Whether the file as it is now is in force; 0: it was refused, and the one before stays.",
            registry=registry,
        )
        self._reloaded.set(1)

    def reloaded(self, accepted: bool) -> None:
        """Count a changed configuration file."""
        self._reloads.labels("success" if accepted else "failure").inc()
        self._reloaded.set(accepted)

    def picked(self, pick: Pick) -> None:
        """Count by model, priority, result and server."""
        model = self._model(pick.model)
        self._requests.labels(model, model, str(pick.priority)).inc()
        host, port = split(pick.endpoint) if pick.endpoint else ("", "")
        self._attempts.labels(pick.outcome.value, model, host, "", str(port)).inc()
        self._seconds.observe(pick.seconds)
        if pick.outcome is PickOutcome.PICKED and pick.prompt_bytes:
            self._hits.observe(pick.matched_bytes / pick.prompt_bytes)

    def released(self, pool: str, by: Release) -> None:
        """Count by who released."""
        self._releases.labels(pool, by.value).inc()

    def ended(self, end: Ended) -> None:
        """Count by outcome, and time the first byte."""
        self._ends.labels(end.pool, end.outcome.value).inc()
        if (
            end.outcome is EndOutcome.COMPLETED
            and end.answered_after is not None
            and end.sent_after is not None
        ):
            self._first_byte.labels(end.pool).observe(max(0.0, end.answered_after - end.sent_after))

    def scrape_failed(self, pool: str, error: ScrapeError) -> None:
        """Count by cause."""
        self._scrape_errors.labels(pool, error.value).inc()

    def scraped(self, pool: str, seconds: float) -> None:
        """Time it."""
        self._scrape_seconds.labels(pool).observe(seconds)

    def resolve_failed(self, pool: str) -> None:
        """Count by pool."""
        self._resolve_errors.labels(pool).inc()

    def membership(self, *, accepted: bool) -> None:
        """Count by answer."""
        self._membership.labels("ack" if accepted else "nack").inc()

    def redis(self, up: bool) -> None:
        """Note whether Redis answers."""
        self._redis.set(up)

    def _model(self, name: str) -> str:
        """Return `name` as a label value; names past the limit are one."""
        if name not in self._models:
            if len(self._models) >= MAX_MODELS:
                return "other"
            self._models.add(name)
        return name


class PoolCollector(Collector):
    """Gauges read from the pools at the moment of a scrape. `saturation` asks the detector."""

    def __init__(self, pools: Mapping[str, Pool], saturation: Callable[[Pool], float]) -> None:
        self._pools = pools
        self._saturation = saturation

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
        yield from self._by_server()

    def _by_server(self) -> Iterable[Metric]:
        labels = ("pool", "endpoint")
        requests = GaugeMetricFamily("epp_inflight_requests", "Requests sent and not ended.", labels=labels)
        tokens = GaugeMetricFamily(
            "epp_inflight_prompt_tokens", "Their uncached prompt tokens.", labels=labels
        )
        for pool in self._pools.values():
            for server in pool.snapshot.servers:
                load = pool.inflight.loads[server.slot]
                requests.add_metric((pool.name, server.address), load.requests)
                tokens.add_metric((pool.name, server.address), load.prompt_tokens)
        return requests, tokens


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
