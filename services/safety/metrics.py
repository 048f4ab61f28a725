"""Counts verdicts for Prometheus. Label values come from closed enums and from the rules that the policies name."""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.safety.audit import Record
from services.safety.holdback import LIMIT
from services.safety.judge import UNDECODABLE
from services.safety.verdict import Report

_HELD = (0, 16, 64, 256, 1024, 4096, 8192)  # bytes: a word, a key, a card in a sentence … the cap's default
_SECONDS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)  # a service nearby … the default deadline
_OTHER = "other"
_WHY = frozenset({UNDECODABLE, LIMIT})


class PrometheusObserver:
    """The one importer of prometheus_client in the safety service."""

    def __init__(
        self, registry: CollectorRegistry, rules: Collection[str], providers: Collection[str] = ()
    ) -> None:
        self._rules = frozenset(rules)
        self._providers = frozenset(providers)
        self._verdicts = Counter(
            "safety_verdicts_total",
            "Verdicts on prompts and answers.",
            ["direction", "verdict"],
            registry=registry,
        )
        self._states = Counter(
            "safety_states_total", "How much of them was judged.", ["direction", "state"], registry=registry
        )
        self._findings = Counter("safety_findings_total", "Findings by rule.", ["rule"], registry=registry)
        self._bytes = Counter(
            "safety_bytes_total",
            "Bytes of text scanned, and not scanned.",
            ["direction", "state"],
            registry=registry,
        )
        self._held = Histogram(
            "safety_stream_held_bytes", "Most bytes of one text that a stream held back.",
            buckets=_HELD, registry=registry,
        )  # fmt: skip

        self._shadow = Counter(
            "safety_shadow_verdicts_total",
            "Verdicts of shadow policies beside those in force.",
            ["direction", "in_force", "shadow"],
            registry=registry,
        )
        self._shadow_dropped = Counter(
            "safety_shadow_dropped_total",
            "Judgements of shadow policies that were not made: too many waited.",
            registry=registry,
        )
        self._unjudged = Counter(
            "safety_unjudged_passed_total",
            "Prompts and answers that could not be judged and passed because the policy fails open.",
            ["direction", "why"],
            registry=registry,
        )
        self._answers = Counter(
            "safety_provider_answers_total",
            "Answers of remote judges.",
            ["provider", "state", "verdict"],
            registry=registry,
        )
        self._open = Counter(
            "safety_failed_open_total",
            "Answers that left something unjudged which the policy let pass.",
            ["provider", "state"],
            registry=registry,
        )
        self._seconds = Histogram(
            "safety_provider_seconds", "Time until a remote judge answered, retries included.",
            ["provider"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._dropped = Counter(
            "safety_audit_dropped_total",
            "Audit records that a sink could not take.",
            ["sink"],
            registry=registry,
        )

    def dropped(self, sink: str) -> None:
        """Count an audit record that was lost; `sink` is one of ours."""
        self._dropped.labels(sink).inc()

    def shadow_dropped(self) -> None:
        """Count a judgement of a shadow policy that was not made."""
        self._shadow_dropped.inc()

    def verdict(self, record: Record) -> None:
        """Count `record`. What a shadow policy would have done is counted apart."""
        verdict, direction = record.verdict, record.direction
        if record.against is not None:
            self._shadow.labels(direction, record.against, verdict.action).inc()
            return
        for why in verdict.failed_open:
            self._unjudged.labels(direction, why if why in _WHY or why in self._rules else _OTHER).inc()
        self._verdicts.labels(direction, verdict.action).inc()
        self._states.labels(direction, verdict.state).inc()
        self._bytes.labels(direction, "scanned").inc(verdict.scanned_bytes)
        self._bytes.labels(direction, "skipped").inc(verdict.skipped_bytes)
        for located in verdict.findings:
            rule = located.finding.rule
            self._findings.labels(rule if rule in self._rules else _OTHER).inc()
        if record.held_bytes is not None:
            self._held.observe(record.held_bytes)
        for report in record.reported:
            self._provider(report)

    def know(self, rules: Collection[str]) -> None:
        """Take the rules of new policies for label values."""
        self._rules |= frozenset(rules)

    def _provider(self, report: Report) -> None:
        name = report.provider if report.provider in self._providers else _OTHER
        self._answers.labels(name, report.state, report.action).inc()
        self._seconds.labels(name).observe(report.seconds)
        if report.failed_open:
            self._open.labels(name, report.state).inc()
