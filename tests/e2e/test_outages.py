"""Each part of the gateway killed and started again: what still works, and that it heals by itself."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.gateway.stack import BASE, OTHER, Parts
from tests.e2e.harness.wait import wait_until

pytestmark = pytest.mark.e2e

ENVOY, CHAT = "envoy", "/v1/chat/completions"
IN_FLIGHT, GONE = "epp_inflight_requests", "epp_releases_total"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(tmp_path_factory.mktemp("parts"))
    try:
        parts.start_all()
        wait_until(lambda: works(parts), "everything is up", deadline=60)
        yield parts
    finally:
        parts.kill_all()


@pytest.fixture(autouse=True)
def whole(parts: Parts) -> None:
    """Begin each test with everything up, whatever the one before did."""
    wait_until(lambda: works(parts), "everything is up")


def status(parts: Parts, model: str = "llama-3.1-8b-instruct") -> int:
    """Return the status of a chat request; 0 when there is nobody to ask."""
    try:
        return parts.gateway.chat("hello", model=model).status_code
    except httpx.TransportError:
        return 0


def works(parts: Parts) -> bool:
    return status(parts) == status(parts, OTHER) == 200


@pytest.mark.parametrize("service", ["bbr", "safety", "epp"])
def test_a_service_that_is_gone_closes_the_gateway_until_it_is_back(parts, service):
    """All three are declared fail-closed: 503 with a JSON error, never an unrouted or unchecked request."""
    parts.kill(service)
    try:
        answer = parts.gateway.chat("hello")
    finally:
        parts.start(service)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"]
    wait_until(lambda: works(parts), f"{service} is back")


def test_without_the_picker_the_models_are_still_listed(parts):
    """What needs no endpoint goes on."""
    parts.kill("epp")
    try:
        assert parts.gateway.http.get(f"{parts.gateway.gateway}/v1/models").status_code == 200
    finally:
        parts.start("epp")
    wait_until(lambda: works(parts), "the picker is back")


def test_without_redis_everything_works(parts):
    """Redis is never on the request's path."""
    parts.kill("redis")
    try:
        assert [status(parts) for _ in range(10)] == [200] * 10
    finally:
        parts.start("redis")
    assert works(parts)


def test_a_model_server_that_dies_is_replaced_by_its_neighbour(parts):
    """No request fails, not even the first after the crash; the server is used again when it is back."""
    parts.kill("llama-1")
    try:
        assert [status(parts) for _ in range(20)] == [200] * 20
    finally:
        parts.start("llama-1")
    wait_until(
        lambda: parts.gateway.chat("hello").headers.get("x-served-by") == "llama-1", "llama-1 is used again"
    )


def test_envoy_starts_again_with_the_same_members(parts):
    """A new Envoy gets its membership from the picker and serves at once."""
    parts.kill("envoy")
    try:
        assert status(parts) == 0
    finally:
        parts.start("envoy")
    wait_until(lambda: works(parts), "Envoy is back")


def test_what_a_killed_envoy_had_in_flight_counts_no_more(parts):
    """It reports no end any more; the picker sees its streams break, and the next Envoy begins with idle servers."""
    gateway = parts.gateway
    wait_until(lambda: gateway.metric("epp", IN_FLIGHT) == 0, "nothing is in flight before")
    body = {
        "model": BASE,
        "max_tokens": 1000,
        "stream": True,
        "messages": [{"role": "user", "content": "go on"}],
    }
    slow = {"x-mock-token-ms": "50"}
    gone = gateway.metric("epp", GONE)
    with gateway.http.stream("POST", f"{gateway.gateway}{CHAT}", json=body, headers=slow) as answer:
        chunks = answer.iter_bytes()
        next(chunks)
        wait_until(lambda: gateway.metric("epp", IN_FLIGHT) == 1, "one request is counted")
        parts.kill(ENVOY)
        with pytest.raises(httpx.TransportError):
            list(chunks)
    try:
        wait_until(lambda: gateway.metric("epp", IN_FLIGHT) == 0, "the request is forgotten")
    finally:
        parts.start(ENVOY)
    assert gateway.metric("epp", GONE) == gone + 1
    wait_until(lambda: works(parts), "another Envoy is there")
