"""Conditions, precedence, limits and timeouts of routes on real Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.e2e.gateway.stand import Stand, stand
from tools.gateway.conditions import HeaderCondition, PathCondition
from tools.gateway.routes import BbrCall, Route, Routes, Services, Share

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

MIB = 1024 * 1024
BETA = HeaderCondition(name="x-tier", exact="beta")


def to(pool: str) -> tuple[Share, ...]:
    return (Share(pool=pool),)


ROUTES = Routes(
    routes=(
        Route(name="beta", base_model="chat", headers=(BETA,), pools=to("b")),
        Route(
            name="team",
            base_model="chat",
            headers=(
                HeaderCondition(name="x-team", prefix="red-"),
                HeaderCondition(name="x-trial", present=False),
            ),
            pools=to("b"),
        ),
        Route(
            name="numbered",
            base_model="chat",
            headers=(HeaderCondition(name="x-trial", regex="[0-9]+"),),
            pools=to("b"),
        ),
        Route(
            name="completions", base_model="chat", path=PathCondition(exact="/v1/completions"), pools=to("b")
        ),
        Route(base_model="chat", pools=to("a")),
        Route(base_model="idle", pools=to("a"), idle_timeout_seconds=0.4),
        Route(base_model="brief", pools=to("a"), max_duration_seconds=0.5),
        Route(
            name="version",
            path=PathCondition(regex="/(version|health)"),
            methods=("GET",),
            pools=to("b"),
            read_body=False,
        ),
        Route(
            name="upload",
            path=PathCondition(prefix="/v1/files"),
            methods=("POST", "PUT"),
            pools=to("b"),
            read_body=False,
            body_limit=2 * MIB,
        ),
    ),
    denied_paths=("/v1/load_lora_adapter",),
    services=Services(bbr=BbrCall(headers=("x-team",))),
)
NAMES = ("chat", "idle", "brief")
MODELS = {"a": NAMES, "b": NAMES}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stand]:
    async with stand(tmp_path_factory.mktemp("stand"), ROUTES, MODELS) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(running: Stand) -> Stand:
    await running.forget()
    return running


@pytest.mark.parametrize(
    ("headers", "pool"),
    [
        ({}, "a"),
        ({"x-tier": "beta"}, "b"),
        ({"x-tier": "beta2"}, "a"),
        ({"x-team": "red-7"}, "b"),
        ({"x-team": "blue-red-7"}, "a"),
        ({"x-team": "red-7", "x-trial": "no"}, "a"),
        ({"x-trial": "42"}, "b"),
        ({"x-trial": "42a"}, "a"),
        ({"x-tier": "beta", "x-trial": "no"}, "b"),
    ],
)
async def test_the_first_route_whose_conditions_all_hold_decides(gateway, headers, pool):
    """Exact, prefix, regex over the whole value, and absence; the model's own route takes the rest."""
    assert (await gateway.ask("chat", headers=headers)).headers["x-served-by"] == f"{pool}-1"


async def test_a_path_makes_a_route_special_and_a_query_does_not(gateway):
    """The query is no part of the path."""
    body = {"model": "chat", "prompt": "Hello", "max_tokens": 1}
    assert (await gateway.http.post("/v1/completions?x=1", json=body)).headers["x-served-by"] == "b-1"
    assert (await gateway.ask("chat")).headers["x-served-by"] == "a-1"


async def test_a_route_without_a_model_takes_requests_without_a_body(gateway):
    """By path and method; BBR is not asked, the EPP picks, and other methods do not match."""
    answer = await gateway.http.get("/version")
    assert answer.status_code == 200, answer.text
    assert (len(gateway.bbr.requests), gateway.pools["b"].picks) == (0, 1)
    assert (await gateway.http.post("/version", json={})).status_code == 404
    assert (await gateway.http.get("/versions")).status_code == 404


async def test_a_route_without_a_model_has_a_limit_of_its_own(gateway):
    """Below the file's. The mock server has no such path, and BBR would have refused it."""
    first, second = [await gateway.http.post("/v1/files", content=b"x" * size) for size in (MIB, 3 * MIB)]
    assert (first.status_code, second.status_code) == (404, 413)
    assert second.json()["error"]["code"] == "request_too_large"
    assert (len(gateway.bbr.requests), gateway.pools["b"].picks) == (0, 1)


async def test_silence_ends_a_stream_after_its_routes_time(gateway):
    """A server that stalls in mid-answer does not hold a client for ever, and is not asked again."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.ask("idle", stream=True, max_tokens=50, headers={"x-mock-fault": "stall-after=3e"})
    assert asyncio.get_running_loop().time() - began < 10
    assert gateway.pools["a"].counts == {"idle": 1}


async def test_a_stream_that_speaks_is_cut_only_at_its_longest(gateway):
    """Tokens every 100 ms keep it from being idle; the duration bounds it."""
    pace = {"x-mock-token-ms": "100"}
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.ask("brief", stream=True, max_tokens=200, headers=pace)
    whole = await gateway.ask("idle", stream=True, max_tokens=8, headers=pace)
    assert whole.text.rstrip().endswith("data: [DONE]")


async def test_bbr_may_set_what_its_configuration_lists_and_nothing_else(gateway):
    """A plugin's header arrives; a credential stays as the client sent it, and an unlisted header is not set."""
    wanted = {"x-team": "blue", "x-other": "blue", "authorization": "forged"}
    answer = await gateway.ask("chat", set=wanted, headers={"authorization": "own"})
    assert answer.status_code == 200, answer.text
    (entry,) = gateway.pools["a"].entries
    headers = dict(entry["headers"])
    assert (headers.get("x-team"), headers.get("x-other")) == ("blue", None)
    assert headers["authorization"] == "own"


async def test_a_path_that_bbr_rewrites_is_routed_again_and_cannot_escape(gateway):
    """A model's name may stand in the path; what is denied stays denied."""
    completions = {"model": "chat", "prompt": "Hello", "max_tokens": 1, "set": {":path": "/v1/completions"}}
    answer = await gateway.http.post("/v1/chat/completions", json=completions)
    assert answer.headers["x-served-by"] == "b-1", answer.text
    assert [entry["path"] for entry in gateway.pools["b"].entries] == ["/v1/completions"]
    denied = await gateway.ask("chat", set={":path": "/v1/load_lora_adapter"})
    assert (denied.status_code, denied.json()["error"]["code"]) == (404, "unknown_url")
