from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.bbr.metrics import PrometheusObserver
from services.bbr.records import Refusal, RequestRecord, Result
from services.openai.dialects import Dialect
from services.openai.errors import Reason


def counted(*records: RequestRecord) -> CollectorRegistry:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, version="1.2", now=lambda: 5.0, log=lambda *_, **__: None)
    for record in records:
        observer.request(record)
    return registry


@pytest.mark.parametrize(
    ("record", "name", "labels"),
    [
        (RequestRecord(Dialect.CHAT, Result.ROUTED), "bbr_success_total", {}),
        (
            RequestRecord(Dialect.CHAT, Result.ROUTED),
            "bbr_requests_total",
            {"dialect": "chat", "result": "routed"},
        ),
        (RequestRecord(Dialect.CHAT, Result.ROUTED, rewritten=True), "bbr_rewrites_total", {}),
        (
            RequestRecord(Dialect.CHAT, Result.REFUSED, reason=Reason.FIELD_MISSING, field="model"),
            "bbr_body_field_not_found_total",
            {"field": "model"},
        ),
        (
            RequestRecord(Dialect.CHAT, Result.REFUSED, reason=Reason.FIELD_EMPTY, field="model"),
            "bbr_body_field_empty_total",
            {"field": "model"},
        ),
        (
            RequestRecord(Dialect.CHAT, Result.REFUSED, reason=Refusal.MODEL_NOT_FOUND, field="model"),
            "bbr_refusals_total",
            {"reason": "model_not_found"},
        ),
    ],
)
def test_a_record_is_counted_under_the_reference_names(record, name, labels):
    """Dashboards made for the reference router go on working."""
    assert counted(record, record).get_sample_value(name, labels) == 2


def test_a_refusal_is_no_success():
    """Nor a listing, nor a request that passes."""
    results = (Result.REFUSED, Result.LISTED, Result.PASSED)
    registry = counted(*(RequestRecord(Dialect.CHAT, result) for result in results))
    assert registry.get_sample_value("bbr_success_total") == 0
    assert registry.get_sample_value("bbr_rewrites_total") == 0


def test_the_version_is_shown():
    """As a constant with a label."""
    assert counted().get_sample_value("bbr_info", {"version": "1.2"}) == 1
