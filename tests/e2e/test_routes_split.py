"""A weighted split on real Envoy, over enough requests to tell 90 from 88. The services answer as fast as they can."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import grpc
import httpx
import pytest
from envoy_data_plane.envoy.service.ext_proc import v3 as ext_proc

from tests.e2e.gateway.stand import PATH, body_of
from tests.gateway.stubs import (
    Seen,
    access_log,
    free_book,
    free_ports,
    membership,
    model_server,
    picked,
    routed,
    running_envoy,
    serving,
)
from tools.gateway.envoy import bootstrap
from tools.gateway.envoy.settings import POOL_CONTEXT
from tools.gateway.routes import Route, Routes, Share

pytestmark = pytest.mark.e2e

SHARES = (Share(pool="old", weight=90), Share(pool="new", weight=10))
ROUTES = Routes(routes=(Route(base_model="chat", pools=SHARES, check_answers=False),))
COUNT, SHARE = 2000, 0.1
BATCH = 20
PORTS = dict(zip(("old", "new"), free_ports(2), strict=True))
REQUEST_BODY = 0x22  # the first byte of a ProcessingRequest that carries one: field 4, length-delimited


def answering(heads: Mapping[str, bytes], body: bytes, told: Counter[str]) -> grpc.GenericRpcHandler:
    """Return an ext_proc service of ready-made replies, to heads by the pool that it is told; it counts those."""

    async def process(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        initial = {key: str(value) for key, value in context.invocation_metadata() or ()}
        pool = initial.get(POOL_CONTEXT, "")
        told[pool] += 1
        while isinstance(message := await context.read(), bytes):
            await context.write(body if message[0] == REQUEST_BODY else heads[pool])

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(process)
    return grpc.method_handlers_generic_handler(
        "envoy.service.ext_proc.v3.ExternalProcessor", {"Process": handler}
    )


async def test_90_to_10_of_2000_whatever_the_epp_does(tmp_path: Path):
    """Within 4.5 standard deviations, which misses once in 150,000 runs; each pick is for the pool that serves."""
    passes = {"": bytes(ext_proc.ProcessingResponse(request_headers=ext_proc.HeadersResponse()))}
    unchanged = bytes(ext_proc.ProcessingResponse(request_body=ext_proc.BodyResponse()))
    picks = {pool: bytes(picked(f"127.0.0.1:{port}", "d")) for pool, port in PORTS.items()}
    members = membership({f"pool-{pool}": [port] for pool, port in PORTS.items()})
    book, told = free_book(), Counter[str]()
    config = tmp_path / "envoy.json"
    config.write_text(bootstrap.to_json(bootstrap.build(ROUTES, book)))
    async with contextlib.AsyncExitStack() as stack:
        for service in (
            serving(book.bbr.port, answering(passes, bytes(routed("chat", "digest")), Counter())),
            serving(book.safety.port, answering(passes, unchanged, Counter())),
            serving(book.epp.port, answering(picks, b"", told), members, access_log(Seen())),
        ):
            await stack.enter_async_context(service)
        heads = {pool: await stack.enter_async_context(model_server(port)) for pool, port in PORTS.items()}
        await stack.enter_async_context(running_envoy(config, book.admin, members=2))
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://{book.gateway}", timeout=30)
        )
        for _ in range(COUNT // BATCH):
            answers = await asyncio.gather(*(http.post(PATH, json=body_of("chat")) for _ in range(BATCH)))
            assert {answer.status_code for answer in answers} == {200}
    served = {pool: len(seen) for pool, seen in heads.items()}
    assert sum(served.values()) == COUNT
    assert dict(told) == served
    assert abs(served["new"] - COUNT * SHARE) < 4.5 * math.sqrt(COUNT * SHARE * (1 - SHARE))
