"""Metrics carry the reference's names, and a bounded number of label values."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.epp.endpoints import Metrics
from services.epp.gauges import PoolCollector
from services.epp.inflight import Entry
from services.epp.labels import MOST, Labels
from services.epp.metrics import PrometheusObserver
from services.epp.pool import Pool
from services.epp.records import (
    Ended,
    EndOutcome,
    Observer,
    Pick,
    PickOutcome,
    Release,
    Rewritten,
    ScrapeError,
    Silent,
)
from tests.epp.world import Clock, address, pool_of


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def observer(registry: CollectorRegistry) -> PrometheusObserver:
    return PrometheusObserver(registry, Labels())


def pick(**more: Any) -> Pick:
    facts: dict[str, Any] = {
        "pool": "p",
        "model": "m",
        "priority": 0,
        "outcome": PickOutcome.PICKED,
        "seconds": 0.001,
    }
    return Pick(**(facts | more))


def test_a_pick_is_counted_by_model_priority_and_server(registry, observer):
    """inference_objective_request_total and inference_extension_scheduler_attempts_total."""
    observer.picked(pick(endpoint="10.0.0.1:80", priority=-1, prompt_bytes=100, matched_bytes=50))

    labels = {"model_name": "m", "target_model_name": "m", "priority": "-1"}
    assert registry.get_sample_value("inference_objective_request_total", labels) == 1
    labels = {
        "status": "success",
        "target_model_name": "m",
        "pod_name": "10.0.0.1",
        "namespace": "",
        "port": "80",
    }
    assert registry.get_sample_value("inference_extension_scheduler_attempts_total", labels) == 1
    assert registry.get_sample_value("inference_extension_scheduler_e2e_duration_seconds_count") == 1
    assert registry.get_sample_value("inference_extension_prefix_indexer_hit_ratio_sum") == 0.5


def test_a_rewrite_is_counted_by_rule_and_both_names(registry, observer):
    """inference_extension_model_rewrite_decisions_total; and what no rule could be applied to."""
    observer.rewrote(Rewritten("r", "asked", "served"))
    observer.unread("p")

    labels = {"model_rewrite_name": "r", "model_name": "asked", "target_model": "served"}
    assert registry.get_sample_value("inference_extension_model_rewrite_decisions_total", labels) == 1
    assert registry.get_sample_value("epp_rewrites_unread_total", {"pool": "p"}) == 1


def test_a_refusal_has_no_server_and_no_hit_ratio(registry, observer):
    """It is an attempt all the same."""
    observer.picked(pick(outcome=PickOutcome.SHED, prompt_bytes=100))

    labels = {"status": "shed", "target_model_name": "m", "pod_name": "", "namespace": "", "port": ""}
    assert registry.get_sample_value("inference_extension_scheduler_attempts_total", labels) == 1
    assert registry.get_sample_value("inference_extension_prefix_indexer_hit_ratio_count") == 0


def test_model_names_of_clients_cannot_fill_the_memory(registry, observer):
    """From the thousand-and-first on they are one."""
    for number in range(MOST + 5):
        observer.picked(pick(model=f"m{number}"))
    observer.picked(pick(model="m0"))

    def count(model: str) -> Any:
        labels = {"model_name": model, "target_model_name": model, "priority": "0"}
        return registry.get_sample_value("inference_objective_request_total", labels)

    assert (count("m0"), count("other"), count(f"m{MOST}")) == (2, 5, None)


def test_everything_else_that_is_reported_is_counted(registry, observer):
    """Each under closed labels."""
    observer.released("p", Release.ACCESS_LOG)
    observer.ended(Ended("p", "d", EndOutcome.COMPLETED, sent_after=0.1, answered_after=0.4))
    observer.ended(Ended("p", "d", EndOutcome.NOT_SENT))
    observer.scrape_failed("p", ScrapeError.TIMEOUT)
    observer.scraped("p", 0.01)
    observer.resolve_failed("p")
    observer.membership(accepted=True)
    observer.membership(accepted=False)
    observer.redis(True)

    value = registry.get_sample_value
    assert value("epp_releases_total", {"pool": "p", "by": "access_log"}) == 1
    assert value("epp_ends_total", {"pool": "p", "outcome": "not_sent"}) == 1
    assert value("epp_time_to_first_byte_seconds_sum", {"pool": "p"}) == pytest.approx(0.3)
    assert value("epp_scrape_errors_total", {"pool": "p", "error": "timeout"}) == 1
    assert value("epp_scrape_duration_seconds_count", {"pool": "p"}) == 1
    assert value("epp_resolve_errors_total", {"pool": "p"}) == 1
    assert value("epp_membership_answers_total", {"answer": "ack"}) == 1
    assert value("epp_membership_answers_total", {"answer": "nack"}) == 1
    assert value("epp_redis_up") == 1


def test_pools_are_read_when_the_page_is_read(registry):
    """Means are over the servers that answer."""
    clock = Clock()
    pool = pool_of(3, clock)
    pool.observe(address(0), Metrics(waiting=4, running=2, kv_usage=0.5))
    for _ in range(9):
        pool.miss(address(2))
    registry.register(PoolCollector({"llama": pool}, lambda _: 0.7, Labels()))
    pool.reserve(Entry("d", 0, clock(), prompt_tokens=10, output_tokens=1))

    def value(metric: str, **labels: str) -> Any:
        return registry.get_sample_value(metric, labels)

    assert value("inference_pool_ready_pods", name="llama") == 2
    assert value("inference_pool_average_queue_size", name="llama") == 2
    assert value("inference_pool_average_running_requests", name="llama") == 1
    assert value("inference_pool_average_kv_cache_utilization", name="llama") == 0.25
    assert value("epp_pool_saturation", name="llama") == 0.7
    assert value("epp_inflight_requests", pool="llama", endpoint=address(0)) == 1
    assert value("epp_inflight_prompt_tokens", pool="llama", endpoint=address(0)) == 10


def test_an_empty_pool_has_figures_too(registry):
    """No division by zero."""
    registry.register(PoolCollector({"p": Pool("p", clock=Clock())}, lambda _: 1.0, Labels()))

    assert registry.get_sample_value("inference_pool_average_queue_size", {"name": "p"}) == 0


@pytest.mark.parametrize("kind", [Silent, lambda: PrometheusObserver(CollectorRegistry(), Labels())])
def test_every_observer_hears_everything(kind):
    """The interface is complete in both."""
    names = [name for name in vars(Observer) if not name.startswith("_")]

    assert all(callable(getattr(kind(), name)) for name in names)
