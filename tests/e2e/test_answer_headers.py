"""What the picker tells a client although it sees no answer: why, and the token of its session. Real picker and Envoy."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from envoy_data_plane.envoy.service.ext_proc import v3 as ext_proc

from services.epp.app import build as build_epp
from services.epp.config import EndpointPickerConfig
from services.extproc.config import Limits, Listen, parse
from services.extproc.lifecycle import Parts, running
from tests.e2e.gateway.stand import PATH, body_of
from tests.e2e.harness.wait import until
from tests.gateway.stubs import Seen, free_book, passing, processor, routed, running_envoy, serving
from tools.gateway.envoy import bootstrap
from tools.gateway.routes import Routes
from tools.model_server.core import Settings
from tools.model_server.server import serve

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

ROUTES = """
routes:
  - {base_model: chat, pools: [{pool: chat}]}
  - {base_model: spare, pools: [{pool: chat}], fallbacks: [{pool: chat}]}
"""
EPP = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: session-affinity-scorer}]
explain: {sample: 1.0}
"""
ASKS = {"x-gateway-explain": "true"}


@dataclass(slots=True)
class Edges:
    """One picker behind an Envoy that trusts its clients to ask why, and one that does not."""

    trusting: httpx.AsyncClient
    strict: httpx.AsyncClient


def by_model(message: ext_proc.ProcessingRequest) -> ext_proc.ProcessingResponse:
    if message.request_body:
        return routed(json.loads(message.request_body.body)["model"], "")
    return passing(message)


@contextlib.asynccontextmanager
async def edge(folder: Path, name: str, routes: str, picker: int) -> AsyncIterator[httpx.AsyncClient]:
    book = free_book(epp=picker)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serving(book.bbr.port, processor(Seen(), by_model)))
        await stack.enter_async_context(serving(book.safety.port, processor(Seen(), passing)))
        config = folder / f"{name}.json"
        config.write_text(bootstrap.to_json(bootstrap.build(parse(routes, Routes), book)))
        await stack.enter_async_context(running_envoy(config, book.admin, members=2))
        yield await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://{book.gateway}", timeout=30)
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edges(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edges]:
    folder = tmp_path_factory.mktemp("edges")
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        servers = [
            await enter(serve(Settings(name=f"chat-{n}", model="chat", adapters=("spare",)))) for n in (1, 2)
        ]
        members = json.dumps([f"127.0.0.1:{server.port}" for server in servers])
        text = EPP + f"pools: [{{name: chat, endpoints: {members}, metrics: {{interval_seconds: 0.05}}}}]\n"
        config, parts = parse(text, EndpointPickerConfig), Parts()
        listen = Listen(port=0, grace_seconds=0)
        ports = await enter(running(lambda parts: build_epp(config, parts), listen, Limits(), parts))

        async def ready() -> bool:
            return parts.readiness.ready

        await until(ready, "the picker is ready")
        trust = "edge: {trusted_headers: [x-gateway-explain]}\n"
        trusting = await enter(edge(folder, "trusting", ROUTES + trust, ports.grpc))
        yield Edges(trusting, await enter(edge(folder, "strict", ROUTES, ports.grpc)))


@pytest.mark.parametrize("model", ["chat", "spare"], ids=["at the edge", "in a leg"])
async def test_who_may_ask_is_told_why(edges, model):
    """The choice and its reason come as a header of the answer."""
    answer = await edges.trusting.post(PATH, json=body_of(model), headers=ASKS)
    assert answer.status_code == 200
    told = json.loads(answer.headers["x-gateway-explain"])
    assert len(told["chosen"]) == 2
    assert told["totals"].keys() == set(told["chosen"])


async def test_who_does_not_ask_or_may_not_is_told_nothing(edges):
    """Every decision here is explained to the operator; names and loads of servers are not for clients."""
    unasked = await edges.trusting.post(PATH, json=body_of("chat"))
    untrusted = await edges.strict.post(PATH, json=body_of("chat"), headers=ASKS)
    assert (unasked.status_code, untrusted.status_code) == (200, 200)
    assert "x-gateway-explain" not in unasked.headers
    assert "x-gateway-explain" not in untrusted.headers


async def test_a_session_follows_its_token(edges):
    """The picker never sees an answer's head, and still its token reaches the client and brings it back."""
    first = await edges.strict.post(PATH, json=body_of("chat"))
    token = {"x-session-token": first.headers["x-session-token"]}
    turns = [await edges.strict.post(PATH, json=body_of("chat"), headers=token) for _ in range(12)]
    assert {turn.headers["x-served-by"] for turn in turns} == {first.headers["x-served-by"]}
    assert {turn.headers["x-session-token"] for turn in turns} == {token["x-session-token"]}
    strangers = [await edges.strict.post(PATH, json=body_of("chat")) for _ in range(12)]
    assert {one.headers["x-served-by"] for one in strangers} == {"chat-1", "chat-2"}
