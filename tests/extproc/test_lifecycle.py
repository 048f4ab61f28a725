"""Start, readiness, drain and stop of a process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import urllib.request

import grpc
import pytest
from prometheus_client import Counter

from services.extproc.config import Limits, Listen
from services.extproc.decisions import Forward
from services.extproc.errors import BindError
from services.extproc.events import Outcome
from services.extproc.exchange import Exchange
from services.extproc.lifecycle import App, Parts, running
from services.extproc.readiness import Readiness
from services.extproc.servicer import SERVICE_NAME
from tests.extproc.kit import Fake
from tests.extproc.live import (
    BUFFERED,
    NOT_SERVING,
    SERVING,
    Stream,
    connected,
    headers,
    health,
    served,
    watched,
)

NAMES = ("", "liveness", "readiness", SERVICE_NAME)


@pytest.mark.parametrize("name", NAMES)
async def test_health_answers_on_both_ports(name):
    """With every name that probes of the reference ask for."""
    async with served(Fake()) as ports:
        assert ports.health is not None
        assert [await health(port, name) for port in (ports.grpc, ports.health)] == [SERVING, SERVING]


async def test_an_unknown_name_is_not_found():
    """As the health protocol says."""
    async with served(Fake()) as ports:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await health(ports.grpc, "other")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_readiness_follows_the_value_that_the_service_sets():
    """Alive before it is ready, and unready again when the service says so."""
    parts = Parts(readiness=Readiness(ready=False))
    async with served(Fake(), parts=parts) as ports:
        assert [await health(ports.grpc, name) for name in NAMES] == [
            NOT_SERVING,
            SERVING,
            NOT_SERVING,
            NOT_SERVING,
        ]
        async with watched(ports.grpc, "readiness") as heard:
            assert await heard() == NOT_SERVING
            parts.readiness.set(True)
            assert await heard() == SERVING
            parts.readiness.set(False)
            assert await heard() == NOT_SERVING


async def test_a_detail_has_a_health_name_and_changes_no_other():
    """What is wrong and does not keep the service from its work is for people to see."""
    parts = Parts()
    parts.readiness.note("config", ok=True)
    async with served(Fake(), parts=parts) as ports, watched(ports.grpc, "config") as heard:
        assert await heard() == SERVING
        parts.readiness.note("config", ok=False)
        assert await heard() == NOT_SERVING
        assert [await health(ports.grpc, name) for name in NAMES] == [SERVING] * len(NAMES)


class Waiting(Fake):
    """A service that decides when the test says so."""

    def __init__(self):
        super().__init__()
        self.began, self.released = asyncio.Event(), asyncio.Event()

    def open(self, context):
        service = self

        class WaitingExchange(Exchange):
            async def request(self, request):
                service.began.set()
                await service.released.wait()
                return Forward()

            def end(self, end):
                service.ends.append(end)

        return WaitingExchange()


async def test_leaving_lets_open_streams_finish():
    """NOT_SERVING first, then the drain delay, then the grace for open streams, and the background work last."""
    steps: list[str] = []
    leaving = asyncio.Event()

    def step(name):
        steps.append(name)
        leaving.set()

    drained, service = asyncio.Event(), Waiting()
    async with contextlib.AsyncExitStack() as stack:
        ports = await stack.enter_async_context(served(service, grace=30, on_exit=step, drained=drained))
        async with connected(ports.grpc) as channel:
            stream = Stream(channel)
            await stream.say(request_headers=headers(end=True), protocol_config=BUFFERED)
            await service.began.wait()
            async with asyncio.TaskGroup() as group:
                group.create_task(stack.aclose())
                await leaving.wait()
                assert await health(ports.grpc, "readiness") == NOT_SERVING
                assert await health(ports.grpc, "liveness") == SERVING
                drained.set()
                service.released.set()
                reply = await stream.hear()
                await stream.done()
    assert reply is not None
    assert reply.WhichOneof("response") == "request_headers"
    assert steps == ["draining for 2.5 s", "background", "stopped"]


async def test_a_stream_longer_than_the_grace_is_cut():
    """And its exchange hears of it."""
    service = Waiting()
    async with contextlib.AsyncExitStack() as stack:
        ports = await stack.enter_async_context(served(service, grace=0))
        channel = await stack.enter_async_context(connected(ports.grpc))
        stream = Stream(channel)
        await stream.say(request_headers=headers(end=True), protocol_config=BUFFERED)
        await service.began.wait()
    assert [end.outcome for end in service.ends] == [Outcome.ABANDONED]


async def test_metrics_are_served_over_http():
    """The streams' and whatever else is in the registry."""
    parts = Parts()
    Counter("own", "The service's own", registry=parts.registry).inc()
    async with served(Fake(request=Forward()), parts=parts) as ports:
        async with connected(ports.grpc) as channel:
            stream = Stream(channel)
            await stream.say(request_headers=headers(end=True), protocol_config=BUFFERED)
            await stream.hear()
            await stream.done()
            await stream.code()
        url = f"http://127.0.0.1:{ports.metrics}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    assert "own_total 1.0" in text
    assert 'fake_extproc_streams_total{outcome="forwarded",reason=""} 1.0' in text
    assert "fake_extproc_streams_in_flight 0.0" in text


async def test_a_service_may_bring_grpc_services_of_its_own():
    """On the ext_proc port, beside Process and health."""

    async def echo(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(echo)
    handler = grpc.method_handlers_generic_handler("test.Own", {"Echo": method})
    async with served(Fake(), handlers=[handler]) as ports, connected(ports.grpc) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Own/Echo")
        assert await call(b"hello") == b"hello"


@pytest.mark.parametrize("which", ["port", "health_port", "metrics_port"])
async def test_a_port_that_is_taken_is_one_clear_error(which):
    """It names the port, and what had started is stopped."""
    stopped = []

    @contextlib.asynccontextmanager
    async def build(_):
        try:
            yield App(Fake())
        finally:
            stopped.append(True)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        numbers = {"port": 0, "health_port": 0, "metrics_port": 0} | {which: port}
        with pytest.raises(
            BindError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"
        ):
            async with running(build, Listen(**numbers), Limits(), Parts()):
                pass
    assert stopped == ([] if which == "metrics_port" else [True])


async def test_ports_that_are_not_wanted_are_not_opened():
    """None in the configuration."""

    @contextlib.asynccontextmanager
    async def build(_):
        yield App(Fake())

    async with running(build, Listen(port=0, grace_seconds=0), Limits(), Parts()) as ports:
        assert (ports.health, ports.metrics) == (None, None)
        assert ports.grpc > 0
