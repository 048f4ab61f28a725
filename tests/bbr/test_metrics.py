from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.bbr.metrics import PrometheusObserver
from services.bbr.records import PluginId, Point, Refusal, RequestRecord, Result, Rewriting
from services.bbr.rules import Rules
from services.openai.dialects import Dialect
from services.openai.errors import Reason
from services.openai.rewrites import Rewrite, Target
from tests.bbr.world import MODELS, Notes, asking, bbr, chat


def counted(*records: RequestRecord) -> CollectorRegistry:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, version="1.2", log=lambda *_, **__: None)
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
            RequestRecord(Dialect.CHAT, Result.ROUTED, rewriting=Rewriting("canary", "chatbot", "new")),
            "inference_extension_model_rewrite_decisions_total",
            {"model_rewrite_name": "canary", "model_name": "chatbot", "target_model": "new"},
        ),
        (RequestRecord(Dialect.CHAT, Result.ROUTED, body_bytes=300), "bbr_request_size_bytes_count", {}),
        (
            RequestRecord(Dialect.CHAT, Result.ROUTED, body_bytes=300),
            "bbr_request_size_bytes_bucket",
            {"le": "1024.0"},
        ),
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


PLUGIN = {"extension_point": "request", "plugin_type": "t", "plugin_name": "n"}


def test_plugins_are_timed_and_their_failures_counted_and_logged():
    """Under the reference's labels."""
    registry, lines = CollectorRegistry(), []
    observer = PrometheusObserver(registry, version="1", log=lambda event, **_: lines.append(event))
    observer.plugin_ran(Point.REQUEST, PluginId("t", "n"), 0.25)
    observer.plugin_failed(Point.REQUEST, PluginId("t", "n"), KeyError("bug"))
    assert registry.get_sample_value("bbr_plugin_duration_seconds_sum", PLUGIN) == 0.25
    assert registry.get_sample_value("bbr_plugin_errors_total", PLUGIN) == 1
    assert lines == ["plugin_failed"]


def test_a_name_that_nothing_lists_is_one_label():
    """Clients cannot make series."""
    notes = Notes()
    rules = Rules(MODELS, rewrites=(Rewrite("rest", (Target("llama"),)),))
    service = bbr(rules=rules, notes=notes)
    for name in ("x1", "x2", "food"):
        service.decide(asking(chat(name)))
    labels = [record.rewriting.asked for record in notes.records if record.rewriting]
    assert labels == ["other", "other", "food"]
