"""Count what the picker reports, under the reference's names: its dashboards work."""

from __future__ import annotations

import os
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.epp.endpoints import split
from services.epp.labels import Labels
from services.epp.records import (
    Ended,
    EndOutcome,
    Enqueued,
    Evicted,
    Finished,
    Pick,
    PickOutcome,
    Release,
    Rewritten,
    ScrapeError,
    Waited,
)
from services.epp.request_metrics import BYTES, SECONDS, RequestMetrics

SCHEDULER_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
COMMIT = "INFERENCE_GATEWAY_COMMIT"
"""The variable that names the commit an image was built from."""
_RATIO = tuple(step / 10 for step in range(11))


class PrometheusObserver:
    """An `Observer` over metrics of one registry."""

    def __init__(self, registry: CollectorRegistry, labels: Labels) -> None:
        self._labels = labels
        self._of_requests = RequestMetrics(registry, labels)
        self._attempts = Counter(
            "inference_extension_scheduler_attempts",
            "Picks by result and chosen server.",
            ("status", "target_model_name", "pod_name", "namespace", "port"),
            registry=registry,
        )
        self._seconds = Histogram(
            "inference_extension_scheduler_e2e_duration_seconds",
            "Time from question to pick.",
            buckets=SCHEDULER_SECONDS,
            registry=registry,
        )
        self._hits = Histogram(
            "inference_extension_prefix_indexer_hit_ratio",
            "Share of the prompt that the chosen server is believed to hold.",
            buckets=_RATIO,
            registry=registry,
        )
        self._hit_bytes = Histogram(
            "inference_extension_prefix_indexer_hit_bytes",
            "Bytes of the prompt that the chosen server is believed to hold.",
            buckets=BYTES,
            registry=registry,
        )
        self._stages = Counter(
            "llm_d_inference_scheduler_disagg_decision",
            "Picks by the stages of disaggregated serving.",
            ("model_name", "decision_type"),
            registry=registry,
        )
        self._rewrites = Counter(
            "inference_extension_model_rewrite_decisions",
            "Requests whose model a rewrite chose.",
            ("model_rewrite_name", "model_name", "target_model"),
            registry=registry,
        )
        self._unread = Counter(
            "epp_rewrites_unread",
            "Requests of a pool with rewrites whose body was not read: they kept their model.",
            ("pool",),
            registry=registry,
        )
        self._releases = Counter(
            "epp_releases", "Requests taken off their server's load.", ("pool", "by"), registry=registry
        )
        self._evictions = Counter(
            "epp_evictions",
            "Requests taken back from their server for others.",
            ("pool", "priority"),
            registry=registry,
        )
        self._evicted_after = Histogram(
            "epp_evicted_after_seconds",
            "From the pick to the eviction: what was lost.",
            ("pool",),
            buckets=SECONDS,
            registry=registry,
        )
        self._ends = Counter("epp_ends", "Ends in the access log.", ("pool", "outcome"), registry=registry)
        self._first_byte = Histogram(
            "epp_time_to_first_byte_seconds",
            "From the request's first byte to the server until the answer's first byte.",
            ("pool",),
            buckets=SECONDS,
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
        Gauge(
            "inference_extension_info", "Which build this is.", ("commit", "build_ref"), registry=registry
        ).labels(os.environ.get(COMMIT, "unknown"), version("inference-gateway")).set(1)
        self._membership = Counter(
            "epp_membership_answers",
            "The proxy's answers to pushed membership.",
            ("answer",),
            registry=registry,
        )

    def picked(self, pick: Pick) -> None:
        """Count by model, priority, result and server."""
        self._of_requests.picked(pick)
        model = self._labels.model(pick.model)
        host, port = split(pick.endpoint) if pick.endpoint else ("", "")
        self._attempts.labels(pick.outcome.value, model, host, "", str(port)).inc()
        self._seconds.observe(pick.seconds)
        if pick.stages:
            self._stages.labels(model, pick.stages).inc()
        if pick.outcome is PickOutcome.PICKED and pick.prompt_bytes:
            self._hits.observe(pick.matched_bytes / pick.prompt_bytes)
            self._hit_bytes.observe(pick.matched_bytes)

    def rewrote(self, rewritten: Rewritten) -> None:
        """Count by rule and both names."""
        asked, target = self._labels.model(rewritten.asked), self._labels.model(rewritten.target)
        self._rewrites.labels(rewritten.rule, asked, target).inc()

    def unread(self, pool: str) -> None:
        """Count by pool."""
        self._unread.labels(pool).inc()

    def waited(self, waited: Waited) -> None:
        """Time the wait at the gate."""
        self._of_requests.waited(waited)

    def evicted(self, evicted: Evicted) -> None:
        """Count by pool and priority, and as an error of its client's."""
        self._of_requests.evicted(evicted)
        self._evictions.labels(evicted.pool, str(evicted.priority)).inc()
        self._evicted_after.labels(evicted.pool).observe(evicted.seconds)

    def enqueued(self, enqueued: Enqueued) -> None:
        """Time how the gate receives."""
        self._of_requests.enqueued(enqueued)

    def dispatched(self, seconds: float) -> None:
        """Time the gate's turns."""
        self._of_requests.dispatched(seconds)

    def finished(self, done: Finished) -> None:
        """Measure the request."""
        self._of_requests.finished(done)

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
