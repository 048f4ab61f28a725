"""Counts BBR's records for Prometheus, under the names of the reference implementation where it has them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.bbr.records import RequestRecord, Result
from services.openai.errors import Reason


class PrometheusObserver:
    """The one importer of prometheus_client in BBR."""

    def __init__(self, registry: CollectorRegistry, *, version: str) -> None:
        Gauge("bbr_info", "The version that runs; always 1.", ["version"], registry=registry).labels(
            version
        ).set(1)
        self._requests = Counter(
            "bbr_requests_total", "Requests by dialect and result.", ["dialect", "result"], registry=registry
        )
        self._success = Counter("bbr_success_total", "Requests given a model header.", registry=registry)
        self._rewrites = Counter("bbr_rewrites_total", "Bodies whose model was replaced.", registry=registry)
        self._refusals = Counter(
            "bbr_refusals_total", "Refused requests by reason.", ["reason"], registry=registry
        )
        self._not_found = Counter(
            "bbr_body_field_not_found_total",
            "Bodies without a field they need.",
            ["field"],
            registry=registry,
        )
        self._empty = Counter(
            "bbr_body_field_empty_total",
            "Bodies with a needed field left empty.",
            ["field"],
            registry=registry,
        )

    def request(self, record: RequestRecord) -> None:
        """Count `record`."""
        self._requests.labels(record.dialect, record.result).inc()
        if record.result is Result.ROUTED:
            self._success.inc()
        if record.rewritten:
            self._rewrites.inc()
        if record.reason is not None:
            self._refusals.labels(record.reason).inc()
        if record.reason is Reason.FIELD_MISSING:
            self._not_found.labels(record.field).inc()
        if record.reason is Reason.FIELD_EMPTY:
            self._empty.labels(record.field).inc()
