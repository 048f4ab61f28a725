"""The safety service as the only filter of an Envoy that is not ours: no router, no picker, other body modes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio

from services.extproc.config import Limits, Listen, parse
from services.extproc.lifecycle import Parts, running
from services.safety.__main__ import build
from services.safety.config import SafetyConfig
from tests.e2e.harness import config
from tests.e2e.harness.envoy import Envoy, envoy_running
from tests.e2e.harness.model import Model, model_running
from tests.safety import bypass_replies, bypasses, kit
from tests.safety.bypasses import Outcome
from tests.safety.test_bypass import check_left

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

FULL_DUPLEX = {
    "request_header_mode": "SEND",
    "request_body_mode": "FULL_DUPLEX_STREAMED",
    "request_trailer_mode": "SEND",
    "response_header_mode": "SEND",
    "response_body_mode": "FULL_DUPLEX_STREAMED",
    "response_trailer_mode": "SEND",
}
MODES = {
    "full-duplex": FULL_DUPLEX,  # GKE's traffic extensions, Istio
    "buffered": {
        "request_header_mode": "SEND",
        "request_body_mode": "BUFFERED",
        "response_header_mode": "SEND",
        "response_body_mode": "BUFFERED",
    },
    "streamed requests": FULL_DUPLEX | {"request_body_mode": "STREAMED", "request_trailer_mode": "SKIP"},
    "as in the gateway": FULL_DUPLEX | {"request_body_mode": "BUFFERED", "request_trailer_mode": "SKIP"},
}
POLICY = bypasses.POLICY.replace("STREAM", "exact") + "  free: {}\nmodels: {open: free}\n"
JSON = {"content-type": "application/json"}


@dataclass(slots=True)
class Alone:
    """Envoy with one listener for each mode, the service, and a server behind."""

    envoy: Envoy
    model: Model
    http: httpx.AsyncClient

    def url(self, mode: str, path: str) -> str:
        return f"http://127.0.0.1:{self.envoy.ports[mode]}{path}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Alone]:
    safety = parse(POLICY, SafetyConfig, name="safety")
    service = running(lambda parts: build(safety, parts), Listen(port=0, grace_seconds=0), Limits(), Parts())
    async with model_running() as model, service as ports, httpx.AsyncClient(timeout=30) as http:
        listeners = [
            config.listener(mode, [config.ext_proc(mode, modes)], [config.route("backend")])
            for mode, modes in MODES.items()
        ]
        clusters = [config.cluster("ext", [ports.grpc], http2=True), config.cluster("backend", [model.port])]
        running_ = envoy_running(config.bootstrap(listeners, clusters), tmp_path_factory.mktemp("alone"))
        envoy = await asyncio.to_thread(running_.__enter__)
        try:
            yield Alone(envoy, model, http)
        finally:
            running_.__exit__(None, None, None)


IN_EVERY_MODE = pytest.mark.parametrize("mode", MODES)
LINES = [
    line
    for line in bypasses.prompts()
    if line.name.startswith(("dialect:", "bytes:", "size:", "unscannable:"))
]
REPLIES = [
    reply
    for reply in bypass_replies.replies()
    if "1 characters" not in reply.name and "byte by byte" not in reply.name
]


@IN_EVERY_MODE
async def test_the_table_of_bypasses_holds_without_the_rest_of_the_gateway(alone, mode):
    """Each line that is about bytes, sizes and dialects; what only BBR would refuse is refused here."""
    for line in LINES:
        alone.model.say([b"{}"], JSON)
        answer = await alone.http.post(
            alone.url(mode, line.path), content=line.body, headers={**JSON, **line.headers}
        )
        if line.expected is Outcome.MASKED:
            assert b"[REDACTED:card]" in alone.model.bodies[0], line.name
        else:
            assert alone.model.bodies == [], line.name
            assert answer.status_code == (400 if line.expected is Outcome.REFUSED else 403), line.name


@IN_EVERY_MODE
async def test_answers_are_judged_in_every_mode(alone, mode):
    """Whole ones and streams, also where Envoy hands over a stream as one piece."""
    status = {Outcome.BLOCKED: 403, Outcome.UNSCANNABLE: 403, Outcome.REFUSED: 502}
    for reply in REPLIES:
        alone.model.say(reply.pieces, reply.headers)
        asked = {"model": bypasses.MODEL, "messages": [{"role": "user", "content": "hi"}]}
        async with alone.http.stream("POST", alone.url(mode, reply.path), json=asked) as answer:
            body = b"".join([chunk async for chunk in answer.aiter_raw()])
        assert answer.status_code == status.get(reply.expected, 200), reply.name
        if reply.expected not in status:
            check_left(reply, body)


@IN_EVERY_MODE
async def test_the_body_names_the_model_that_has_a_policy_of_its_own(alone, mode):
    """Nobody sets the header for it here; what is not judged passes byte for byte."""
    whole = kit.body(bypass_replies.whole({"role": "assistant", "content": kit.SECRET}))
    alone.model.say([whole[:9], whole[9:]], JSON)
    asked = kit.body({"model": "open", "messages": [{"role": "user", "content": kit.SECRET}]})
    answer = await alone.http.post(alone.url(mode, bypass_replies.CHAT), content=asked, headers=JSON)
    assert (answer.content, alone.model.bodies) == (whole, [asked])
