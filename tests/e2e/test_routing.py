"""Where requests go: conversations stay, the rest spreads, weights hold, and clients cannot steer."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.gateway.stack import BASE, OTHER, SPLIT, Gateway
from tests.e2e.harness.wait import wait_until
from tools.workload.conversations import Shape, conversations
from tools.workload.text import pseudo_text

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def gateway(fresh_gateway: Gateway) -> Gateway:
    return fresh_gateway


def served(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-served-by"]


def spread(gateway: Gateway, model: str, count: int, key: str) -> Counter[str]:
    """Return how many of `count` unrelated requests each server got."""
    with ThreadPoolExecutor(8) as pool:
        texts = [pseudo_text(f"{key}-{number}", 300) for number in range(count)]
        return Counter(pool.map(lambda text: served(gateway.chat(text, model=model, max_tokens=2)), texts))


def test_the_turns_of_a_conversation_stay_on_one_server_and_find_their_prefix(gateway):
    """Ten conversations of four turns: at most one may move."""
    shape = Shape(sessions=10, tenants=10, turns=(4, 4), burst_share=0)
    servers: dict[str, list[str]] = {}
    cached = []
    for request in conversations(shape, seed=101):
        answer = gateway.http.post(f"{gateway.gateway}/v1/chat/completions", json=request.chat(BASE))
        servers.setdefault(request.session, []).append(served(answer))
        if request.turn:
            cached.append(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert sum(len(set(names)) == 1 for names in servers.values()) >= 9
    assert sum(map(bool, cached)) >= 27


def test_unrelated_requests_spread(gateway):
    """Neither of two servers gets more than three quarters of sixty."""
    counts = spread(gateway, BASE, 60, "unrelated")
    assert len(counts) == 2
    assert max(counts.values()) <= 45


def test_the_split_between_two_pools_is_as_configured(gateway):
    """90/10 within 4.5 standard deviations, which misses once in 150,000 runs."""
    count, share = 300, 0.1
    new = spread(gateway, SPLIT, count, "split")["gemma-new-1"]
    deviation = math.sqrt(count * share * (1 - share))
    assert abs(new - count * share) < 4.5 * deviation


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-gateway-destination-endpoint", "127.0.0.1:9"),
        ("x-gateway-destination-endpoint-subset", "127.0.0.1:9"),
        ("x-gateway-model-name", OTHER),
        ("x-gateway-base-model-name", OTHER),
        ("X-Gateway-Model-Name", "no-such-model"),
        ("x_gateway_model_name", OTHER),
    ],
)
def test_a_forged_control_header_changes_nothing(gateway, name, value):
    """The request goes where its body says, and no server ever sees the header."""
    answer = gateway.chat("hello", headers={name: value, "x-test": name})
    assert served(answer).startswith("llama-")
    assert answer.json()["model"] == BASE
    entries = [entry for server in gateway.endpoints["llama"] for entry in gateway.state(server).last]
    seen = [headers for entry in entries if ["x-test", name] in (headers := entry["headers"])]
    assert len(seen) == 1
    assert [name.lower(), value] not in seen[0]


def test_sheddable_requests_are_refused_when_the_pool_is_full_and_others_are_not(gateway):
    """429 with `retry-after` for a priority below 0; the same request without the objective waits its turn."""
    (server,) = gateway.endpoints["deepseek"]
    sheddable = {"x-gateway-inference-objective": "batch"}
    assert gateway.chat("idle", model=OTHER, headers=sheddable).status_code == 200
    gateway.http.post(f"{server}/admin/faults", json={"slow": 400.0})
    with ThreadPoolExecutor(16) as pool, httpx.Client(timeout=60) as http:
        body = {
            "model": OTHER,
            "max_tokens": 1,
            "messages": [{"role": "user", "content": pseudo_text("full", 2500)}],
        }
        url = f"{gateway.gateway}/v1/chat/completions"
        waiting = [pool.submit(http.post, url, json=body) for _ in range(16)]
        try:
            wait_until(lambda: saturated(gateway), "the pool is saturated")
            refused = gateway.chat("now", model=OTHER, headers=sheddable)
        finally:
            gateway.http.request("DELETE", f"{server}/admin/faults")
        answers = [future.result() for future in waiting]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json()["error"]["message"]
    assert {answer.status_code for answer in answers} == {200}
    wait_until(lambda: not saturated(gateway), "the queue is empty")
    assert gateway.chat("again", model=OTHER, headers=sheddable).status_code == 200


def saturated(gateway: Gateway) -> bool:
    lines = gateway.http.get(gateway.metrics["epp"]).text.splitlines()
    return any(
        line.startswith('epp_pool_saturation{name="deepseek"}') and float(line.split()[-1]) >= 1
        for line in lines
    )
