"""Streams as metrics."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.extproc.events import Outcome
from services.extproc.observe import StreamRecord
from services.extproc.prometheus import StreamMetrics, metrics_port


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    return StreamMetrics("bbr", registry)


def test_a_finished_stream_is_counted_by_outcome_and_reason(registry, metrics):
    """With its bytes and the time of the decisions."""
    metrics.started()
    metrics.started()
    metrics.ended(
        StreamRecord(Outcome.REJECTED, "too_large", request_seconds=0.002, request_bytes=10, response_bytes=3)
    )
    sample = registry.get_sample_value
    assert sample("bbr_extproc_streams_total", {"outcome": "rejected", "reason": "too_large"}) == 1
    assert sample("bbr_extproc_streams_in_flight") == 1
    assert sample("bbr_extproc_body_bytes_total", {"side": "request"}) == 10
    assert sample("bbr_extproc_body_bytes_total", {"side": "response"}) == 3
    assert sample("bbr_extproc_decision_seconds_bucket", {"side": "request", "le": "0.0025"}) == 1
    assert sample("bbr_extproc_decision_seconds_bucket", {"side": "request", "le": "0.001"}) == 0


def test_a_decision_that_never_was_is_not_timed(registry, metrics):
    """A response that nobody asked about would be a zero in the histogram."""
    metrics.started()
    metrics.ended(StreamRecord(Outcome.FORWARDED))
    assert registry.get_sample_value("bbr_extproc_decision_seconds_count", {"side": "response"}) == 0


def test_failures_and_dropped_changes_are_counted(registry, metrics):
    """A bug by its type, a misconfigured filter by what it lost."""
    metrics.started()
    metrics.failed(ValueError("secret text"))
    metrics.ended(StreamRecord(Outcome.FAILED, "bug", dropped_headers=True))
    assert registry.get_sample_value("bbr_extproc_failures_total", {"error": "ValueError"}) == 1
    assert registry.get_sample_value("bbr_extproc_dropped_header_changes_total") == 1


def test_every_name_begins_with_the_service(registry, metrics):
    """Three services can be scraped into one place."""
    assert {metric.name.partition("_extproc_")[0] for metric in registry.collect()} == {"bbr"}


async def test_pages_are_shown_to_this_machine_alone(registry, monkeypatch):
    """Looked up when they are asked for: a service adds its own while it is being built."""
    pages: dict[str, Callable[[], bytes]] = {}
    async with metrics_port(registry, "127.0.0.1", 0, pages) as port, aiohttp.ClientSession() as session:
        pages["/debug/things"] = lambda: b"[1]"
        async with session.get(f"http://127.0.0.1:{port}/debug/things") as answer:
            assert (answer.status, await answer.json()) == (200, [1])
        async with session.get(f"http://127.0.0.1:{port}/debug/other") as answer:
            assert answer.status == 404
        monkeypatch.setattr(web.BaseRequest, "remote", "10.0.0.7")
        async with session.get(f"http://127.0.0.1:{port}/debug/things") as answer:
            assert answer.status == 404
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert answer.status == 200
