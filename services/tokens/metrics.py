"""Count prompts and time their tokens. Models are those of the configuration, so their number is bounded."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.tokens.records import Found, Outcome

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class PrometheusObserver:
    """An `Observer` over metrics of one registry; `service` is what their names begin with."""

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        self._found = Counter(
            f"{service}_token_lookups",
            "Requests by how much of their prompt was known in tokens.",
            ("model", "known"),
            registry=registry,
        )
        self._outcomes = Counter(
            f"{service}_tokenized_prompts", "Prompts by outcome.", ("model", "outcome"), registry=registry
        )
        self._seconds = Histogram(
            f"{service}_tokenize_duration_seconds",
            "Time that a prompt's tokens took, beside its request.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )

    def found(self, model: str, found: Found) -> None:
        """Count by model and how much was known."""
        self._found.labels(model, found.value).inc()

    def tokenized(self, model: str, outcome: Outcome, seconds: float) -> None:
        """Count by model and outcome."""
        self._outcomes.labels(model, outcome.value).inc()
        if outcome is Outcome.TOKENIZED:
            self._seconds.labels(model).observe(seconds)
