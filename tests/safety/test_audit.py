from __future__ import annotations

import json

import structlog
from prometheus_client import CollectorRegistry

from services.safety.audit import AuditLog, Observers, Record, fields, text_hash
from services.safety.metrics import PrometheusObserver
from services.safety.verdict import Action, Direction, Finding, Located, Report, State, Verdict

FOUND = Record(
    Direction.RESPONSE,
    Verdict(
        Action.REDACT,
        State.PARTIAL,
        (Located(Finding("card", 3, 19, "pii"), ("choices", 0), Action.REDACT),),
        100,
        7,
        ("media",),
    ),
    policy="default",
    model="m",
    request_id="r-1",
    held_bytes=12,
)
CLEAN = Record(Direction.PROMPT, Verdict(Action.ALLOW, scanned_bytes=5), policy="default", model="m")


def test_a_record_is_plain_json_with_spans():
    """What was found where, how much was read and why not all."""
    record = json.loads(json.dumps(fields(FOUND)))
    assert record["findings"] == [
        {
            "rule": "card",
            "category": "pii",
            "action": "redact",
            "path": ["choices", 0],
            "span": [3, 19],
            "confidence": "high",
        }
    ]
    assert (record["state"], record["skipped"], record["scanned_bytes"]) == ("partial", ["media"], 100)


def test_findings_are_logged_at_info_and_clean_texts_at_debug():
    """A busy gateway does not log every request."""
    with structlog.testing.capture_logs() as lines:
        log = AuditLog()
        log.verdict(FOUND)
        log.verdict(CLEAN)
    assert [line["log_level"] for line in lines] == ["info", "debug"]


def test_a_hash_needs_its_key():
    """Equal texts are told apart from others, but not by who lacks the key."""
    assert text_hash(b"k", b"x") == text_hash(b"k", b"x")
    assert len({text_hash(b"k", b"x"), text_hash(b"k", b"y"), text_hash(b"l", b"x")}) == 3


def test_metrics_count_by_closed_labels():
    """Rules that no configuration knows count as `other`."""
    registry = CollectorRegistry()
    observer = Observers([PrometheusObserver(registry, ["jwt"])])
    observer.verdict(FOUND)
    observer.verdict(CLEAN)

    def value(name, **labels):
        return registry.get_sample_value(name, labels)

    assert value("safety_verdicts_total", direction="response", verdict="redact") == 1
    assert value("safety_verdicts_total", direction="prompt", verdict="allow") == 1
    assert value("safety_findings_total", rule="other") == 1
    assert value("safety_bytes_total", direction="response", state="skipped") == 7
    assert value("safety_stream_held_bytes_count") == 1


def test_what_remote_judges_answer_is_counted_and_what_was_let_through():
    """By provider, state and verdict; one that no configuration names is `other`."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, [], ["far"])
    reports = (
        Report("far", State.TIMEOUT, Action.ALLOW, 0.3, failed_open=True),
        Report("who", State.JUDGED, Action.BLOCK, 0.1),
    )
    observer.verdict(Record(Direction.PROMPT, Verdict(Action.BLOCK), "default", "m", reported=reports))
    observer.dropped("file")

    def value(name, **labels):
        return registry.get_sample_value(name, labels)

    assert value("safety_provider_answers_total", provider="far", state="timeout", verdict="allow") == 1
    assert value("safety_provider_answers_total", provider="other", state="judged", verdict="block") == 1
    assert value("safety_failed_open_total", provider="far", state="timeout") == 1
    assert value("safety_failed_open_total", provider="other", state="judged") is None
    assert value("safety_provider_seconds_sum", provider="far") == 0.3
    assert value("safety_audit_dropped_total", sink="file") == 1
