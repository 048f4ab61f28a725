"""Requests under the reference's names and labels, and as few label values as it promises."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.epp.director import Ask
from services.epp.flow.control import FlowControl
from services.epp.flow.settings import Settings
from services.epp.gauges import FlowCollector, PoolCollector
from services.epp.labels import MOST, Capped, Labels
from services.epp.records import EndOutcome, Finished, Pick, PickOutcome, Silent, Waited, WaitOutcome
from services.epp.request_metrics import RequestMetrics
from services.epp.scheduling.saturation import Concurrency
from services.openai.digest import Digest
from tests.epp.world import Clock, address, director_of, pool_of

MODEL = {"model_name": "m", "target_model_name": "m"}
PREFIX = "inference_objective"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> RequestMetrics:
    return RequestMetrics(registry, Labels())


def done(outcome: EndOutcome = EndOutcome.COMPLETED, **more: Any) -> Finished:
    return Finished("p", "d", "a:1", outcome, model="m", **more)


def test_a_stream_is_measured_from_its_first_token(registry, metrics):
    """All histograms that a dashboard of the reference reads."""
    metrics.finished(
        done(
            status=200,
            stream=True,
            seconds=3.0,
            total_seconds=4.0,
            first_byte=0.1,
            first_token=1.0,
            prompt_tokens=50,
            cached_tokens=16,
            output_tokens=5,
            prompt_bytes=200,
            response_bytes=900,
        )
    )
    expected = {
        "request_duration_seconds": 4.0,
        "request_ttft_seconds": 1.0,
        "request_tpot_seconds": 0.5,
        "normalized_time_per_output_token_seconds": 0.8,
        "input_tokens": 50,
        "output_tokens": 5,
        "prompt_cached_tokens": 16,
        "request_sizes": 200,
        "response_sizes": 900,
    }
    for name, value in expected.items():
        assert registry.get_sample_value(f"{PREFIX}_{name}_sum", MODEL) == pytest.approx(value), name
        assert registry.get_sample_value(f"{PREFIX}_{name}_count", MODEL) == 1


def test_what_nobody_saw_is_not_measured(registry, metrics):
    """A whole answer has no first token, and cached tokens are unknown without the server's word."""
    metrics.finished(done(status=200, first_byte=0.1, output_tokens=5))
    for name in ("request_ttft_seconds", "request_tpot_seconds", "prompt_cached_tokens"):
        assert registry.get_sample_value(f"{PREFIX}_{name}_count", MODEL) is None


@pytest.mark.parametrize(
    ("finished", "code"),
    [
        (done(EndOutcome.SERVER_FAILED), "ModelServerError"),
        (done(EndOutcome.TIMED_OUT), "ModelServerError"),
        (done(status=500), "ModelServerError"),
        (done(EndOutcome.NOT_SENT), "ServiceUnavailable"),
        (done(status=400), "BadRequest"),
    ],
)
def test_a_failure_is_an_error_and_not_a_measurement(registry, metrics, finished, code):
    """Its times would make the others look better or worse than they are."""
    metrics.finished(finished)
    assert registry.get_sample_value(f"{PREFIX}_request_error_total", MODEL | {"error_code": code}) == 1
    assert registry.get_sample_value(f"{PREFIX}_request_duration_seconds_count", MODEL) is None


def test_a_client_that_left_is_neither(registry, metrics):
    """It is no failure of a server."""
    metrics.finished(done(EndOutcome.CLIENT_LEFT, status=200))
    samples = [s for family in registry.collect() for s in family.samples]
    assert not [s for s in samples if s.value and not s.name.endswith("_created")]


def test_a_refusal_is_counted_as_request_and_error(registry, metrics):
    """In the reference's words."""
    metrics.picked(Pick("p", "m", -1, PickOutcome.SHED, 0.1))
    assert registry.get_sample_value(f"{PREFIX}_request_total", MODEL | {"priority": "-1"}) == 1
    labels = MODEL | {"error_code": "InferencePoolResourceExhausted"}
    assert registry.get_sample_value(f"{PREFIX}_request_error_total", labels) == 1


def test_waits_are_told_by_flow_and_outcome(registry, metrics):
    """The reference's set of labels."""
    metrics.waited(Waited("p", "m", 5, "tenant", WaitOutcome.EXPIRED, 2.0))
    labels = MODEL | {
        "fairness_id": "tenant",
        "priority": "5",
        "inference_pool": "p",
        "outcome": "EvictedTTL",
    }
    name = "inference_extension_flow_control_request_queue_duration_seconds_sum"
    assert registry.get_sample_value(name, labels) == 2.0


def test_label_values_are_bounded():
    """Whoever comes after the thousandth is `other`, and the known ones stay themselves."""
    capped = Capped()
    assert [capped(f"v{number}") for number in range(MOST + 2)][-3:] == [f"v{MOST - 1}", "other", "other"]
    assert capped("v0") == "v0"


async def test_what_waits_is_shown_by_flow(registry):
    """Sizes and bytes now, and how full the pool is."""
    clock = Clock()
    pool = pool_of(1, clock)
    director = director_of(pool, clock=clock, detector=Concurrency(max_concurrency=1), sheds=False)
    flow = FlowControl(director, Settings(), now=clock, observer=Silent())
    registry.register(FlowCollector(flow, {"llama": pool}, director.saturation, Labels()))
    for _ in range(3):
        flow.enter(Ask(Digest("m", prompt_bytes=100), fairness="t"))
    labels = MODEL | {"fairness_id": "t", "priority": "0", "inference_pool": "llama"}
    prefix = "inference_extension_flow_control"
    assert registry.get_sample_value(f"{prefix}_queue_size", labels) == 2
    assert registry.get_sample_value(f"{prefix}_queue_bytes", labels) == 200
    assert registry.get_sample_value(f"{prefix}_pool_saturation", {"inference_pool": "llama"}) == 1.0


def test_running_requests_and_queues_are_shown(registry):
    """By model, and by server."""
    clock = Clock()
    pool = pool_of(2, clock)
    director = director_of(pool, clock=clock)
    for _ in range(3):
        director.pick(Ask(Digest("m")))
    registry.register(PoolCollector({"llama": pool}, director.saturation, Labels()))
    assert registry.get_sample_value(f"{PREFIX}_running_requests", {"model_name": "m"}) == 3
    server = {"name": "llama", "model_server_pod": address(1)}
    assert registry.get_sample_value("inference_pool_per_pod_queue_size", server) == 0


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"first_token_slo": 0.5, "token_slo": 1.0}, {"ttft": 1.0, "tpot": None}),
        ({"first_token_slo": 2.0, "token_slo": 0.1}, {"ttft": None, "tpot": 1.0}),
        ({"first_token_slo": 2.0, "token_slo": 1.0}, {"ttft": None, "tpot": None}),
        ({}, {"ttft": None, "tpot": None}),
    ],
)
def test_an_answer_that_came_later_than_wanted_is_counted(registry, metrics, more, expected):
    """A first token after one second, and four further ones in two."""
    metrics.finished(done(status=200, stream=True, seconds=3.0, first_token=1.0, output_tokens=5, **more))
    labels = {"model_name": "m", "target_model_name": "m"}
    name = "inference_objective_request_slo_violation_total"
    found = {kind: registry.get_sample_value(name, labels | {"type": kind}) for kind in ("ttft", "tpot")}
    assert found == expected
