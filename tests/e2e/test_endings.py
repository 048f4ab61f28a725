"""Answers that do not end as they should: the client leaves, the server breaks, the server is not there."""

from __future__ import annotations

import json

import httpx
import openai
import pytest

from tests.e2e.gateway.stack import BASE, OTHER, Gateway
from tests.e2e.harness.wait import wait_until
from tools.workload.text import pseudo_text

pytestmark = pytest.mark.e2e

SLOW = {"x-mock-token-ms": "50"}
NEVER = {"x-mock-ttft-ms": "60000"}
LONG = {"model": BASE, "max_tokens": 1000, "stream": True, "messages": [{"role": "user", "content": "go on"}]}


@pytest.fixture(autouse=True)
def at_rest(gateway: Gateway):
    """Begin and end with nothing in flight: a request that nobody released fails the test that made it."""
    wait_until(gateway.at_rest, "nothing is in flight before")
    yield
    wait_until(gateway.at_rest, "nothing is in flight after")


def counted(gateway: Gateway) -> tuple[int, float]:
    """Return how many requests the servers work on, and how many the picker believes they do."""
    running = sum(gateway.state(server).running for server in gateway.servers)
    return running, gateway.metric("epp", "epp_inflight_requests")


def test_a_client_that_leaves_a_stream_frees_the_server(gateway):
    """The server stops and the picker forgets the request, long before the answer would have ended."""
    with gateway.http.stream(
        "POST", f"{gateway.gateway}/v1/chat/completions", json=LONG, headers=SLOW
    ) as answer:
        chunks = answer.iter_bytes()
        next(chunks)
        wait_until(
            lambda: counted(gateway) == (1, 1), lambda: f"one request is counted, not {counted(gateway)}"
        )
    wait_until(gateway.at_rest, "the request is forgotten")


def test_a_client_that_leaves_before_the_first_byte_frees_the_server(gateway):
    """Also when nothing of the answer has come yet."""
    with pytest.raises(httpx.ReadTimeout):
        gateway.http.post(f"{gateway.gateway}/v1/chat/completions", json=LONG, headers=NEVER, timeout=0.5)
    wait_until(gateway.at_rest, "the request is forgotten")


def test_many_clients_that_leave_free_everything(gateway):
    """Nothing is left of thirty broken streams, and the next client is served."""
    for _ in range(30):
        with gateway.http.stream(
            "POST", f"{gateway.gateway}/v1/chat/completions", json=LONG, headers=SLOW
        ) as answer:
            next(answer.iter_bytes())
    wait_until(gateway.at_rest, "all are forgotten")
    assert gateway.chat("still there?").status_code == 200


@pytest.mark.parametrize("after", [0, 1, 200, 1000])
def test_a_server_that_breaks_a_stream_breaks_it_for_the_client_too(sdk, after):
    """A cut answer never looks like a whole one."""
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        list(sdk.chat.completions.create(**LONG, extra_headers={"x-mock-fault": f"reset-after={after}"}))


@pytest.mark.parametrize("after", [0, 100])
def test_a_server_that_breaks_a_plain_answer_is_an_error(gateway, after):
    """Either an error status or a broken body, never half an answer with status 200."""
    try:
        answer = gateway.chat("hello", headers={"x-mock-fault": f"reset-after={after}"})
    except httpx.RemoteProtocolError:
        return
    assert answer.status_code >= 500


def test_an_error_of_the_server_is_passed_on(gateway):
    """Status and body are the server's, and it is not tried again elsewhere: generation is not idempotent."""
    before = requests(gateway)
    answer = gateway.chat("hello", headers={"x-mock-fault": "status=500"})
    assert answer.status_code == 500
    assert answer.json()["error"]["message"]
    assert requests(gateway) == before + 1


def requests(gateway: Gateway) -> int:
    """Return how many chat requests the servers of the base model have got."""
    counts = [gateway.state(server).raw["requests"] for server in gateway.endpoints["llama"]]
    return sum(int(count.get("/v1/chat/completions", 0)) for count in counts if isinstance(count, dict))


def test_a_server_that_refuses_is_passed_over(gateway):
    """The next endpoint of the list takes over without the client noticing, and the server comes back."""
    text = pseudo_text("refuse", 1000)
    home = gateway.chat(text).headers["x-served-by"]
    refusing = gateway.endpoints["llama"][int(home.removeprefix("llama-")) - 1]
    retries = gateway.envoy_stat("cluster.pool-llama.upstream_rq_retry")
    gateway.http.post(f"{refusing}/admin/faults", json={"refuse": True, "seconds": 4})
    wait_until(lambda: not healthy(refusing), "the server refuses")
    # The picker has not noticed yet: the list begins with the server that has the prefix.
    answers = [gateway.chat(text) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert home not in {answer.headers["x-served-by"] for answer in answers}
    assert gateway.envoy_stat("cluster.pool-llama.upstream_rq_retry") > retries
    wait_until(lambda: healthy(refusing), "the server is back")
    wait_until(
        lambda: gateway.metric("epp", "inference_pool_ready_pods") == len(gateway.servers), "the picker knows"
    )


def healthy(server: str) -> bool:
    try:
        return httpx.get(f"{server}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_a_pool_without_a_server_is_unavailable(gateway):
    """503 with a JSON error in the words of the API, and other pools go on."""
    (only,) = gateway.endpoints["deepseek"]
    gateway.http.post(f"{only}/admin/faults", json={"refuse": True, "seconds": 3})
    wait_until(lambda: not healthy(only), "the server refuses")
    answer = gateway.chat("hello", model=OTHER)
    assert answer.status_code == 503
    assert json.loads(answer.content)["error"]["message"]
    assert gateway.chat("hello").status_code == 200
    wait_until(lambda: healthy(only), "the server is back")
    wait_until(lambda: gateway.chat("hello", model=OTHER).status_code == 200, "the pool is back")
