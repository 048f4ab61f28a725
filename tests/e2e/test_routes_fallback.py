"""Ordered fallback on real Envoy: when the next pool is tried, when never, and what each pool's servers got."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable

import httpx
import pytest
import pytest_asyncio

from tests.e2e.gateway.stand import Stand, stand
from tests.gateway.stubs import free_ports
from tools.gateway.routes import Fallback, PoolLimits, Route, Routes, Share

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

ROUTES = Routes(
    routes=(
        Route(
            base_model="chat",
            pools=(Share(pool="first"),),
            fallbacks=(Fallback(pool="second"), Fallback(pool="third", model="small")),
        ),
        Route(
            base_model="quick",
            pools=(Share(pool="first"),),
            fallbacks=(Fallback(pool="third", model="small"),),
            first_byte_seconds=0.3,
        ),
        Route(
            base_model="full",
            pools=(Share(pool="narrow"),),
            fallbacks=(Fallback(pool="second", model="chat"),),
        ),
        Route(base_model="alone", pools=(Share(pool="first"),), first_byte_seconds=0.3),
    ),
    pool_limits={"narrow": PoolLimits(max_requests=1)},
)
MODELS = {"first": ("chat", "quick", "alone"), "second": ("chat",), "third": ("small",), "narrow": ("full",)}
(CLAIMS,) = free_ports(1)
"""Of a server that answers 503 and says that another pool may be tried."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stand]:
    async with stand(tmp_path_factory.mktemp("stand"), ROUTES, MODELS, extra=[CLAIMS]) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(running: Stand) -> Stand:
    await running.forget()
    return running


@pytest_asyncio.fixture(loop_scope="module")
async def claims() -> AsyncIterator[list[bytes]]:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 503 Busy\r\nx-gateway-fallback: down\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", CLAIMS):
        yield heads


def served(gateway: Stand) -> dict[str, dict[str, int]]:
    """Return how often each pool's servers were asked for which model; pools without requests are left out."""
    return {name: dict(pool.counts) for name, pool in gateway.pools.items() if pool.counts}


async def test_while_the_first_pool_answers_no_other_is_asked(gateway):
    """One pick, one request, and the server sees nothing of the legs."""
    answer = await gateway.ask("chat")
    assert (answer.status_code, answer.json()["model"]) == (200, "chat")
    assert served(gateway) == {"first": {"chat": 1}}
    assert [pool.picks for pool in gateway.pools.values()] == [1, 0, 0, 0]
    (entry,) = gateway.pools["first"].entries
    names = {name for name, _ in entry["headers"]}
    assert not {n for n in names if "leg" in n or "attempt" in n or "digest" in n or "mirror" in n}, names


async def test_the_epp_of_every_leg_has_the_digest_and_the_models_headers(gateway):
    """A leg's EPP knows what the edge's would."""
    gateway.pools["first"].refuse = 503
    await gateway.ask("chat")
    assert [context["x-gateway-pool"] for context in gateway.epp.contexts] == ["first", "second"]
    assert [m["gw.bbr"]["digest"] for m in gateway.epp.metadata] == ["digest-of-chat"] * 2
    assert {r["x-gateway-base-model-name"] for r in gateway.epp.requests} == {"chat"}


@pytest.mark.parametrize("status", [429, 503])
async def test_a_pool_that_the_epp_refuses_passes_the_request_on(gateway, status):
    """Saturated or down: the second pool gets it, with one BBR and one safety pass in all."""
    gateway.pools["first"].refuse = status
    answer = await gateway.ask("chat")
    assert answer.status_code == 200, answer.text
    assert served(gateway) == {"second": {"chat": 1}}
    assert (len(gateway.bbr.requests), len(gateway.safety.requests)) == (1, 1)
    assert "x-gateway-fallback" not in answer.headers


async def test_the_last_pool_may_know_the_model_under_another_name(gateway):
    """The body's `model` is rewritten for that leg alone, and the client sees its own name."""
    gateway.pools["first"].refuse = 429
    gateway.pools["second"].refuse = 503
    answer = await gateway.ask("chat")
    assert answer.status_code == 200, answer.text
    assert served(gateway) == {"third": {"small": 1}}
    assert answer.json()["model"] == "chat"
    assert gateway.epp.metadata[-1]["gw.bbr"]["digest"] == "digest-of-small"


async def test_a_stream_falls_back_and_is_whole(gateway):
    """Events come from the third pool under the client's name."""
    gateway.pools["first"].refuse = gateway.pools["second"].refuse = 429
    answer = await gateway.ask("chat", stream=True)
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    assert {json.loads(line)["model"] for line in lines[:-1]} == {"chat"}


async def test_when_every_pool_refuses_the_client_gets_the_last_refusal(gateway):
    """In the EPP's words, with its headers."""
    for pool in gateway.pools.values():
        pool.refuse = 429
    answer = await gateway.ask("chat")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "refused")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/json"
    assert "x-gateway-fallback" not in answer.headers
    assert [pool.picks for pool in gateway.pools.values()] == [1, 1, 1, 0]


async def test_a_pool_whose_servers_refuse_connections_passes_the_request_on(gateway):
    """Every endpoint of the list is tried first, then the next pool."""
    gateway.pools["first"].pick = [gateway.dead, gateway.dead]
    answer = await gateway.ask("chat")
    assert answer.status_code == 200, answer.text
    assert served(gateway) == {"second": {"chat": 1}}


async def test_a_pick_that_is_no_member_passes_the_request_on(gateway):
    """A pool without endpoints looks like this to Envoy."""
    gateway.pools["first"].pick = [1]
    assert (await gateway.ask("chat")).status_code == 200
    assert served(gateway) == {"second": {"chat": 1}}


async def test_a_pool_over_its_deadline_passes_the_request_on(gateway):
    """The first server got the request, and lost it when the deadline ended; the next pool answers."""
    gateway.pools["first"].stall()
    answer = await gateway.ask("quick")
    assert answer.status_code == 200, answer.text
    assert served(gateway)["third"] == {"small": 1}
    assert len(gateway.pools["first"].entries) == 1


async def test_a_deadline_without_a_fallback_is_a_504_in_the_apis_words(gateway):
    """And the request was sent once."""
    gateway.pools["first"].stall()
    answer = await gateway.ask("alone")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_unavailable")
    assert len(gateway.pools["first"].entries) == 1


async def test_the_deadline_ends_with_the_answers_head(gateway):
    """A slow stream that has begun is never cut by it."""
    answer = await gateway.ask("quick", stream=True, headers={"x-mock-token-ms": "250"}, max_tokens=4)
    assert answer.text.rstrip().endswith("data: [DONE]")
    assert [pool.picks for pool in gateway.pools.values()] == [1, 0, 0, 0]


@pytest.mark.parametrize(
    "fault", ["status=500", "status=503", "status=429", "reset-after=0", "reset-after=20"]
)
async def test_what_a_server_has_begun_is_never_repeated(gateway, fault):
    """A server's own error, and a connection that breaks after the request was sent: one request, one pool."""
    await ignoring_cuts(gateway.ask("chat", headers={"x-mock-fault": fault}))
    assert [len(pool.entries) for pool in gateway.pools.values()] == [1, 0, 0, 0]
    assert [pool.picks for pool in gateway.pools.values()] == [1, 0, 0, 0]


async def ignoring_cuts(answer: Awaitable[httpx.Response]) -> None:
    with contextlib.suppress(httpx.RemoteProtocolError):
        assert (await answer).status_code >= 200


async def test_a_server_cannot_claim_that_nothing_began(gateway, claims):
    """The mark is removed from whatever servers answer."""
    gateway.pools["first"].pick = [CLAIMS]
    answer = await gateway.ask("chat")
    assert (answer.status_code, len(claims)) == (503, 1)
    assert "x-gateway-fallback" not in answer.headers
    assert served(gateway) == {}


async def test_a_pool_at_its_circuit_breaker_passes_the_request_on(gateway):
    """The second of two requests at once finds the pool full, and the first is not disturbed."""
    slow = {"x-mock-ttft-ms": "400"}
    answers = await asyncio.gather(*(gateway.ask("full", headers=slow) for _ in range(2)))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert served(gateway) == {"narrow": {"full": 1}, "second": {"chat": 1}}


@pytest.mark.parametrize(("size", "crosses"), [(8191, True), (8192, False)])
async def test_a_digest_below_eight_kib_crosses_and_a_larger_one_is_left_behind(gateway, size, crosses):
    """Without one the leg's EPP picks by the model alone; the server never sees it as a header."""
    answer = await gateway.ask("chat", digest_bytes=size)
    assert answer.status_code == 200, answer.text
    assert ("gw.bbr" in gateway.epp.metadata[-1]) is crosses
    (entry,) = gateway.pools["first"].entries
    assert "x-gateway-digest" not in {name for name, _ in entry["headers"]}
