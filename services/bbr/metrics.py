"""Counts BBR's records for Prometheus, under the names of the reference implementation where it has them."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.bbr.records import PluginId, Point, RequestRecord, Result
from services.openai.errors import Reason

SIZE_BUCKETS = tuple(64 * 4**step for step in range(11))
"""Bytes: 64 B to 64 MiB, past every body limit."""
PLUGIN_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Seconds, as the reference has them."""
_PLUGIN = ["extension_point", "plugin_type", "plugin_name"]


class PrometheusObserver:
    """The one importer of prometheus_client in BBR. `log` hears of plugins' errors."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        version: str,
        log: Callable[..., None],
    ) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self._log = log
        Gauge("bbr_info", "The version that runs; always 1.", ["version"], registry=registry).labels(
            version
        ).set(1)
        self._requests = counter("bbr_requests_total", "Requests by dialect and result.", "dialect", "result")
        self._success = counter("bbr_success_total", "Requests given a model header.")
        self._rewrites = counter("bbr_rewrites_total", "Requests whose model was replaced.")
        self._decisions = counter(
            "inference_extension_model_rewrite_decisions_total",
            "Requests decided by an alias or a rewrite; a name that no rule lists is `other`.",
            "model_rewrite_name",
            "model_name",
            "target_model",
        )
        self._refusals = counter("bbr_refusals_total", "Refused requests by reason.", "reason")
        self._not_found = counter(
            "bbr_body_field_not_found_total", "Bodies without a field they need.", "field"
        )
        self._empty = counter("bbr_body_field_empty_total", "Bodies with a needed field left empty.", "field")
        self._sizes = Histogram(
            "bbr_request_size_bytes", "Bodies that BBR saw.", registry=registry, buckets=SIZE_BUCKETS
        )
        self._plugin_seconds = Histogram(
            "bbr_plugin_duration_seconds",
            "Runs of plugins.",
            _PLUGIN,
            registry=registry,
            buckets=PLUGIN_BUCKETS,
        )
        self._plugin_errors = counter("bbr_plugin_errors_total", "Runs of plugins that raised.", *_PLUGIN)

    def request(self, record: RequestRecord) -> None:
        """Count `record`."""
        self._requests.labels(record.dialect, record.result).inc()
        if record.body_bytes:
            self._sizes.observe(record.body_bytes)
        if record.result is Result.ROUTED:
            self._success.inc()
        if record.rewritten:
            self._rewrites.inc()
        if (rewriting := record.rewriting) is not None:
            self._decisions.labels(rewriting.rule, rewriting.asked, rewriting.target).inc()
        if record.reason is not None:
            self._refusals.labels(record.reason).inc()
        if record.reason is Reason.FIELD_MISSING:
            self._not_found.labels(record.field).inc()
        if record.reason is Reason.FIELD_EMPTY:
            self._empty.labels(record.field).inc()

    def plugin_ran(self, point: Point, plugin: PluginId, seconds: float) -> None:
        """Time a run."""
        self._plugin_seconds.labels(point, plugin.type, plugin.name).observe(seconds)

    def plugin_failed(self, point: Point, plugin: PluginId, error: Exception) -> None:
        """Count a failure, and log it with its stack."""
        self._plugin_errors.labels(point, plugin.type, plugin.name).inc()
        self._log("plugin_failed", point=point.value, type=plugin.type, name=plugin.name, exc_info=error)
