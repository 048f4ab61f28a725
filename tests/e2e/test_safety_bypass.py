"""The table of bypasses on a running gateway: real Envoy, real BBR, safety and picker, a model server that says anything."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from services.bbr.__main__ import build as build_bbr
from services.bbr.config import Config as BbrConfig
from services.epp.app import build as build_epp
from services.epp.config import EndpointPickerConfig
from services.extproc.config import Limits, Listen, parse
from services.extproc.lifecycle import Build, Parts, running
from services.openai.texts import decode
from services.safety.__main__ import build as build_safety
from services.safety.config import SafetyConfig
from tests.e2e.harness.clients import Answer, Ask, http2
from tests.e2e.harness.model import Model, model_running
from tests.e2e.harness.wait import until
from tests.gateway.stubs import free_book, running_envoy
from tests.safety import bypass_replies, bypasses, kit
from tests.safety.bypass_replies import Reply
from tests.safety.bypasses import Line, Outcome
from tests.safety.exchange import SSE
from tests.safety.test_bypass import check_left
from tools.gateway.envoy import bootstrap
from tools.gateway.routes import Routes

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

ROUTES = """
routes:
- {base_model: m, pools: [{pool: one}]}
- {base_model: w, pools: [{pool: one}]}
"""
EPP = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: request-load-scorer}, {type: max-score-picker}]
schedulingProfiles: [{name: default, plugins: [{pluginRef: request-load-scorer}, {pluginRef: max-score-picker}]}]
pools: [{name: one, endpoints: ['http://127.0.0.1:PORT'], metrics: {interval_seconds: 0.05}}]
"""
CODES = {Outcome.BLOCKED: {"secret", "blocklist"}, Outcome.UNSCANNABLE: {"unscannable"}}


@dataclass(slots=True)
class World:
    """The gateway and the model server behind it."""

    http: httpx.AsyncClient
    gateway: int
    model: Model


def safety_config() -> SafetyConfig:
    """Return the table's policy for the model `m`, and for `w` the same with windows."""
    windowed = bypasses.POLICY.replace("STREAM", "window").split("policies:\n  default:", 1)[1]
    text = bypasses.POLICY.replace("STREAM", "exact") + "  windowed:" + windowed + "models: {w: windowed}\n"
    return parse(text, SafetyConfig, name="safety")


@contextlib.asynccontextmanager
async def service(build: Build) -> AsyncIterator[int]:
    async with running(build, Listen(port=0, grace_seconds=0), Limits(), Parts()) as ports:
        yield ports.grpc


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        model = await enter(model_running())
        bbr = parse("models: [{name: m}, {name: w}]", BbrConfig, name="bbr")
        epp = parse(EPP.replace("PORT", str(model.port)), EndpointPickerConfig, name="epp")
        safety = safety_config()
        book = free_book(
            bbr=await enter(service(lambda parts: build_bbr(bbr, parts))),
            safety=await enter(service(lambda parts: build_safety(safety, parts))),
            epp=await enter(service(lambda parts: build_epp(epp, parts))),
        )
        config = folder / "envoy.json"
        routes = parse(ROUTES, Routes, name="routes")
        config.write_text(bootstrap.to_json(bootstrap.build(routes, book)))
        await enter(running_envoy(config, book.admin, members=1))
        http = await enter(httpx.AsyncClient(base_url=f"http://{book.gateway}", timeout=30))

        async def ready() -> bool:
            clean = {"model": bypasses.MODEL, "messages": [{"role": "user", "content": "hi"}]}
            model.say([b"{}"], {"content-type": "application/json"})
            return (await http.post(bypass_replies.CHAT, json=clean)).status_code == 200

        await until(ready, "the gateway answers")
        yield World(http, int(str(book.gateway).rpartition(":")[2]), model)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("bypass")) as running:
        yield running


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("line", list(bypasses.prompts()), ids=lambda line: line.name)
async def test_no_way_round_the_filter_is_open_in_requests(gateway: World, line: Line) -> None:
    """The model server never sees what must not pass; the client is told which category refused it."""
    gateway.model.say([b"{}"], JSON)
    answer = await gateway.http.post(line.path, content=line.body, headers={**JSON, **line.headers})
    if line.expected is Outcome.OUTSIDE:
        assert gateway.model.bodies == [line.body]
        return
    if line.expected is Outcome.MASKED:
        (arrived,) = gateway.model.bodies
        assert b"[REDACTED:card]" in arrived
        decode(arrived)
        return
    assert gateway.model.bodies == []
    assert 400 <= answer.status_code < 500
    if line.expected in CODES and not line.earlier:
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"]
        error = answer.json()["error"]
        assert error.get("code", "secret") in CODES[line.expected]


@pytest.mark.parametrize(
    ("reply", "model"),
    [(reply, "m") for reply in bypass_replies.replies()]
    + [(reply, "w") for reply in bypass_replies.windowed()],
    ids=lambda one: getattr(one, "name", one),
)
async def test_no_way_round_the_filter_is_open_in_answers(gateway: World, reply: Reply, model: str) -> None:
    """The client gets nothing of the secret, and an answer that is whole in its dialect."""
    async with gateway.http.stream("POST", reply.path, json=_asked(gateway, reply, model)) as answer:
        body = b"".join([chunk async for chunk in answer.aiter_raw()])
    if reply.expected in CODES or reply.expected is Outcome.REFUSED:
        assert answer.status_code == (502 if reply.expected is Outcome.REFUSED else 403)
        assert json.loads(body)["error"]["code"] in CODES.get(reply.expected, {"undecodable"})
        return
    assert answer.status_code == 200
    check_left(reply, body)


def _asked(gateway: World, reply: Reply, model: str) -> dict[str, object]:
    gateway.model.say(reply.pieces, reply.headers)
    turns = [{"role": "user", "content": "hi"}]
    fields = {bypass_replies.TEXT: {"prompt": "hi"}, bypass_replies.RESPONSES: {"input": "hi"}}
    return {"model": model, "max_tokens": 9, **fields.get(reply.path, {"messages": turns})}


@pytest.mark.parametrize("size", [1, 5, 64])
async def test_data_frames_of_http2_hide_nothing(gateway: World, size: int) -> None:
    """A request whose secret is cut over many DATA frames is one request."""
    gateway.model.say([b"{}"], JSON)
    body = next(bypasses.prompts()).body
    pieces = tuple(body[at : at + size] for at in range(0, len(body), size))
    ask = Ask(bypass_replies.CHAT, pieces, headers=tuple(JSON.items()))
    answer: Answer = await http2(gateway.gateway, ask)
    assert (answer.status, gateway.model.bodies) == (403, [])


@pytest.mark.parametrize("name", ["x-gateway-model-name", "x-gateway-base-model-name"])
async def test_a_client_chooses_no_policy_by_a_header(gateway: World, name: str) -> None:
    """What names the model for the filter comes from BBR alone."""
    gateway.model.say([b"{}"], JSON)
    line = next(bypasses.prompts())
    answer = await gateway.http.post(line.path, content=line.body, headers={**JSON, name: "free"})
    assert (answer.status_code, gateway.model.bodies) == (403, [])


async def test_a_block_ends_the_servers_work(gateway: World) -> None:
    """The stream that is cut is cut on the server's side too: it stops generating."""
    events = kit.chat(["on ", "Project Bluebird", " and more" * 1000])
    reply = Reply("", (*events[:2], *[events[2]] * 3000), headers=SSE)
    async with gateway.http.stream("POST", reply.path, json=_asked(gateway, reply, "m")) as answer:
        body = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert body.endswith(b"data: [DONE]\n\n")

    async def cut() -> bool:
        return gateway.model.cut_off == 1

    await until(cut, "the server's connection is closed")
