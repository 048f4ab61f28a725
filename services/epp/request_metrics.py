"""Requests as metrics, under the reference's names and labels: `inference_objective_*` and flow control's."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.epp.labels import Labels
from services.epp.records import EndOutcome, Enqueued, Evicted, Finished, Pick, PickOutcome, Waited

MODEL = ("model_name", "target_model_name")
"""Both are the model after aliases and rewrites: the router in front has resolved them."""
FLOW = ("fairness_id", "priority", "inference_pool", *MODEL)

SECONDS = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60),
    *(120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600),
)
TOKEN_SECONDS = (
    *(0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8),
    *(1, 1.5, 2, 3, 4.5, 6, 12, 18, 24, 30, 36, 48, 60, 90, 120, 180, 270, 360),
)
NORMALIZED_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
BYTES = tuple(64 * 2**power for power in range(25))
TOKENS = (1, *(8 * 2**power for power in range(18)))
QUICK_SECONDS = (
    *(0.000_01, 0.000_02, 0.000_05, 0.0001, 0.0002, 0.0005),
    *(0.001, 0.002, 0.005, 0.01, 0.05, 0.1),
)
WAIT_SECONDS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)

_ERRORS = {
    PickOutcome.SHED: "InferencePoolResourceExhausted",
    PickOutcome.NO_ENDPOINT: "ServiceUnavailable",
    PickOutcome.FAILED: "Unknown",
}
_SERVER_ERROR = 500
_CLIENT_ERROR = 400


class RequestMetrics:
    """What happens to requests, from the question to the end of the answer."""

    def __init__(self, registry: CollectorRegistry, labels: Labels) -> None:
        self._labels = labels
        self._registry = registry
        self._requests = Counter(
            "inference_objective_request",
            "Requests by model and priority.",
            (*MODEL, "priority"),
            registry=registry,
        )
        self._errors = Counter(
            "inference_objective_request_error",
            "Requests that were refused or failed.",
            (*MODEL, "error_code"),
            registry=registry,
        )
        self._duration = self._histogram("request_duration_seconds", "As the client saw it.", SECONDS)
        self._first_token = self._histogram(
            "request_ttft_seconds",
            "From the pick to the first piece of a stream; where only the proxy's log tells, to the answer's head.",
            SECONDS,
        )
        self._per_token = self._histogram(
            "request_tpot_seconds", "Between two tokens of a stream.", TOKEN_SECONDS
        )
        self._normalized = self._histogram(
            "normalized_time_per_output_token_seconds", "Duration over tokens.", NORMALIZED_SECONDS
        )
        self._request_bytes = self._histogram("request_sizes", "Bytes of the prompt.", BYTES)
        self._response_bytes = self._histogram("response_sizes", "Bytes of the answer.", BYTES)
        self._input = self._histogram("input_tokens", "Tokens of the prompt.", TOKENS)
        self._output = self._histogram("output_tokens", "Tokens of the answer.", TOKENS)
        self._cached = self._histogram(
            "prompt_cached_tokens", "Tokens of the prompt that the server had.", TOKENS
        )
        self._violations = Counter(
            "inference_objective_request_slo_violation",
            "Answers that came later than their request wanted: the first token (ttft), or a further one (tpot).",
            (*MODEL, "type"),
            registry=registry,
        )
        self._enqueued = Histogram(
            "inference_extension_flow_control_request_enqueue_duration_seconds",
            "To receive a request at the gate.",
            ("fairness_id", "priority", "outcome"),
            buckets=QUICK_SECONDS,
            registry=registry,
        )
        self._cycles = Histogram(
            "inference_extension_flow_control_dispatch_cycle_duration_seconds",
            "To let in whoever there is room for.",
            buckets=QUICK_SECONDS,
            registry=registry,
        )
        self._waited = Histogram(
            "inference_extension_flow_control_request_queue_duration_seconds",
            "Time at the gate of a pool.",
            (*FLOW, "outcome"),
            buckets=WAIT_SECONDS,
            registry=registry,
        )

    def picked(self, pick: Pick) -> None:
        """Count a request, and why it was refused."""
        model = self._labels.model(pick.model)
        self._requests.labels(model, model, str(pick.priority)).inc()
        if pick.outcome is not PickOutcome.PICKED:
            self._errors.labels(model, model, _ERRORS[pick.outcome]).inc()

    def waited(self, waited: Waited) -> None:
        """Time a wait."""
        model = self._labels.model(waited.model)
        flow = (self._labels.fairness(waited.fairness), str(waited.priority), waited.pool, model, model)
        self._waited.labels(*flow, waited.outcome.value).observe(waited.seconds)

    def evicted(self, evicted: Evicted) -> None:
        """Count it as refused after all."""
        model = self._labels.model(evicted.model)
        self._errors.labels(model, model, _ERRORS[PickOutcome.SHED]).inc()

    def enqueued(self, enqueued: Enqueued) -> None:
        """Time how a request was received."""
        flow = (self._labels.fairness(enqueued.fairness), str(enqueued.priority))
        self._enqueued.labels(*flow, enqueued.outcome.value).observe(enqueued.seconds)

    def dispatched(self, seconds: float) -> None:
        """Time a turn of the gate."""
        self._cycles.observe(seconds)

    def finished(self, done: Finished) -> None:
        """Measure a request that has ended."""
        model = self._labels.model(done.model)
        if (code := _error(done)) is not None:
            self._errors.labels(model, model, code).inc()
        if done.outcome is not EndOutcome.COMPLETED or done.status >= _CLIENT_ERROR:
            return
        for histogram, value in self._measured(done):
            histogram.labels(model, model).observe(value)
        for kind in _violations(done):
            self._violations.labels(model, model, kind).inc()

    def _measured(self, done: Finished) -> list[tuple[Histogram, float]]:
        values: list[tuple[Histogram, float]] = [
            (self._duration, done.total_seconds),
            (self._request_bytes, done.prompt_bytes),
            (self._response_bytes, done.response_bytes),
            (self._input, done.prompt_tokens),
            (self._output, done.output_tokens),
        ]
        if done.cached_tokens is not None:
            values.append((self._cached, done.cached_tokens))
        if done.output_tokens:
            values.append((self._normalized, done.total_seconds / done.output_tokens))
        first, further = _latencies(done)
        if first is not None:
            values.append((self._first_token, first))
        if further is not None:
            values.append((self._per_token, further))
        return values

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"inference_objective_{name}", text, MODEL, buckets=buckets, registry=self._registry)


def _latencies(done: Finished) -> tuple[float | None, float | None]:
    """Return the seconds to a stream's first token and between two further ones, as far as they are known."""
    first = done.first_byte if done.first_token is None else done.first_token
    if not done.stream or first is None:
        return None, None
    further = max(0.0, done.seconds - first) / (done.output_tokens - 1) if done.output_tokens > 1 else None
    return first, further


def _violations(done: Finished) -> list[str]:
    first, further = _latencies(done)
    late = (("ttft", first, done.first_token_slo), ("tpot", further, done.token_slo))
    return [kind for kind, seconds, wanted in late if seconds is not None and seconds > wanted]


def _error(done: Finished) -> str | None:
    """Return the reference's word for how a request failed."""
    if done.outcome in (EndOutcome.SERVER_FAILED, EndOutcome.TIMED_OUT) or done.status >= _SERVER_ERROR:
        return "ModelServerError"
    if done.outcome is EndOutcome.NOT_SENT:
        return "ServiceUnavailable"
    return "BadRequest" if done.status >= _CLIENT_ERROR else None
