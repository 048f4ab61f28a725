"""A judge that answers as the test says: over HTTP, or over gRPC for our own contract."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.pb import safety_pb2 as pb
from services.safety.providers.contract import METHOD
from tests.safety.providers.fakes import END, FAKES, NAME, START

BROKEN = ("throttled", "error", "slow", "malformed", "reset")
"""What any service can do, besides answering."""
MODES = ("allow", "block", "mask", "skipped", "partial", *BROKEN)


class Judge:
    """Keeps what it was asked; `plan` holds the modes of the next calls, the last one stays."""

    def __init__(self, kind, *plan):
        self.kind = kind
        self.plan = list(plan)
        self.asked = []
        self.headers = []
        self.peers = set()
        self.over = asyncio.Event()

    def mode(self):
        return self.plan.pop(0) if len(self.plan) > 1 else self.plan[0]


class HttpFake(Judge):
    async def answer(self, request):
        assert request.path == FAKES[self.kind].path
        body = await request.json()
        self.asked.append(body)
        self.headers.append(request.headers)
        self.peers.add(request.transport.get_extra_info("peername"))
        match self.mode():
            case "throttled":
                return web.Response(status=429, text="slow down")
            case "error":
                return web.json_response({"error": "oops"}, status=500)
            case "slow":
                await self.over.wait()
                return web.Response()
            case "malformed":
                return web.Response(text='{"action": ', content_type="application/json")
            case "reset":
                request.transport.abort()
                return web.Response()
            case mode:
                return web.json_response(getattr(FAKES[self.kind], mode)(body))


class GrpcFake(Judge):
    async def answer(self, request, context):
        self.asked.append(request)
        self.headers.append(dict(context.invocation_metadata()))
        self.peers.add(context.peer())
        mode = self.mode()
        if mode == "slow":
            await self.over.wait()
        if mode in {"throttled", "error"}:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED if mode == "throttled" else grpc.StatusCode.INTERNAL
            await context.abort(code, "no")
        if mode == "reset":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
        return self.verdict(mode, request)

    @staticmethod
    def verdict(mode, request):
        whole = pb.Finding(start=0, end=3, rule="mine", category="hate")
        name = pb.Finding(start=START, end=END, rule="name", category="pii")
        return {
            "allow": pb.JudgeResponse(state=pb.JUDGED),
            "block": pb.JudgeResponse(
                action=pb.BLOCK, state=pb.JUDGED, findings=[whole] * (NAME not in request.texts[0].value)
            ),
            "mask": pb.JudgeResponse(action=pb.REDACT, state=pb.JUDGED, findings=[name]),
            "skipped": pb.JudgeResponse(state=pb.SKIPPED),
            "partial": pb.JudgeResponse(state=pb.PARTIAL),
            "malformed": pb.JudgeResponse(),
        }.get(mode, pb.JudgeResponse(state=pb.JUDGED))


@contextlib.asynccontextmanager
async def serving(fake):
    """Serve `fake` on a free port; yield the parameters that name it."""
    async with _grpc(fake) if isinstance(fake, GrpcFake) else _http(fake) as address:
        try:
            yield address
        finally:
            fake.over.set()


@contextlib.asynccontextmanager
async def _http(fake):
    app = web.Application()
    app.router.add_post("/{any:.*}", fake.answer)
    async with TestServer(app, shutdown_timeout=0) as server:
        yield {"url": str(server.make_url("")).rstrip("/"), **FAKES[fake.kind].parameters}


@contextlib.asynccontextmanager
async def _grpc(fake):
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        fake.answer,
        request_deserializer=pb.JudgeRequest.FromString,
        response_serializer=pb.JudgeResponse.SerializeToString,
    )
    service, method = METHOD.strip("/").split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield {"address": f"127.0.0.1:{port}"}
    finally:
        await server.stop(0)


def fake_of(kind, *plan):
    return (GrpcFake if kind == "grpc" else HttpFake)(kind, *plan)


def speaks(kind, mode):
    """Whether this service has words for `mode`."""
    return kind == "grpc" or mode in BROKEN or getattr(FAKES[kind], mode) is not None
