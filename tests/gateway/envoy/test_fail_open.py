"""What clients see of services that are down, on real Envoy, for both declarations."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from envoy_data_plane.envoy.service.ext_proc import v3 as ext_proc

from tests.gateway.stubs import (
    Seen,
    free_book,
    free_ports,
    membership,
    model_server,
    passing,
    processor,
    routed,
    running_envoy,
    serving,
)
from tools.gateway.envoy import bootstrap
from tools.gateway.routes import EppCall, Route, Routes, ServiceCall, Services, Share

pytestmark = pytest.mark.e2e

SERVERS = free_ports(2)
BOOK = free_book()


def one_model(message: ext_proc.ProcessingRequest) -> ext_proc.ProcessingResponse:
    return routed("m", "digest") if message.request_body else passing(message)


@contextlib.asynccontextmanager
async def gateway(tmp_path: Path, services: Services) -> AsyncIterator[httpx.AsyncClient]:
    """Run Envoy with a BBR, without a safety service, and with an EPP that knows its members but does not decide."""
    routes = Routes(routes=(Route(base_model="m", pools=(Share(pool="p"),)),), services=services)
    config = tmp_path / "envoy.json"
    config.write_text(bootstrap.to_json(bootstrap.build(routes, BOOK)))
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serving(BOOK.bbr.port, processor(Seen(), one_model)))
        await stack.enter_async_context(serving(BOOK.epp.port, membership({"pool-p": list(SERVERS)})))
        for port in SERVERS:
            await stack.enter_async_context(model_server(port))
        await stack.enter_async_context(running_envoy(config, BOOK.admin, members=2, healthy=3))
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://{BOOK.gateway}"))


async def ask(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/v1/chat/completions", content=json.dumps({"model": "m"}))


async def test_a_service_that_is_down_is_503_in_the_apis_words(tmp_path):
    """All three fail closed unless told otherwise."""
    async with gateway(tmp_path, Services()) as client:
        answer = await ask(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "gateway_unavailable")


async def test_open_safety_and_open_epp_let_requests_pass_to_every_member(tmp_path):
    """Without a pick the pool is used in turn."""
    open_ = Services(safety=ServiceCall(fail_open=True), epp=EppCall(fail_open=True))
    async with gateway(tmp_path, open_) as client:
        answers = [await ask(client) for _ in range(10)]
    assert Counter(answer.text for answer in answers) == {str(port): 5 for port in SERVERS}
