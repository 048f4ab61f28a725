"""A real server on a port of its own, and a client that speaks ext_proc as bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health_pb2

from services.extproc.config import Limits, Listen, Tls
from services.extproc.exchange import Service
from services.extproc.lifecycle import App, Parts, Ports, running
from services.extproc.servicer import SERVICE_NAME
from services.pb import extproc_pb2 as pb

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PROCESS = f"/{SERVICE_NAME}/Process"
BUFFERED = pb.ProtocolConfiguration(request_body_mode=pb.BUFFERED)


@contextlib.asynccontextmanager
async def served(
    service: Service,
    *,
    parts: Parts | None = None,
    tls: Tls | None = None,
    limits: Limits | None = None,
    handlers: Sequence[grpc.GenericRpcHandler] = (),
    grace: float = 0.0,
    on_exit: Callable[[str], None] = lambda _: None,
    drained: asyncio.Event | None = None,
) -> AsyncIterator[Ports]:
    """Run a service on free ports; `on_exit` hears of the steps of its end, `drained` takes the drain delay's place."""

    @contextlib.asynccontextmanager
    async def build(_: Parts) -> AsyncIterator[App]:
        yield App(service, handlers)
        on_exit("background")

    async def sleep(seconds: float) -> None:
        on_exit(f"draining for {seconds} s")
        if drained is not None:
            await drained.wait()

    listen = Listen(port=0, health_port=0, metrics_port=0, tls=tls, drain_seconds=2.5, grace_seconds=grace)
    async with running(build, listen, limits or Limits(), parts or Parts(), sleep=sleep) as ports:
        yield ports
    on_exit("stopped")


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


class Stream:
    """One ext_proc stream, as Envoy opens it."""

    def __init__(self, channel: grpc.aio.Channel, context: Sequence[tuple[str, str | bytes]] = ()) -> None:
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(PROCESS)
        self._call = method(metadata=grpc.aio.Metadata(*context))

    async def say(self, **message: object) -> None:
        await self._call.write(pb.ProcessingRequest(**message).SerializeToString())  # type: ignore[arg-type]  # by name

    async def hear(self) -> pb.ProcessingResponse | None:
        """Return the next reply; None when the stream has ended, well or not: `code` says how."""
        try:
            data = await self._call.read()
        except grpc.aio.AioRpcError:
            return None
        return pb.ProcessingResponse.FromString(data) if isinstance(data, bytes) else None

    async def done(self) -> None:
        await self._call.done_writing()

    def cancel(self) -> None:
        self._call.cancel()

    async def code(self) -> grpc.StatusCode:
        return await self._call.code()

    async def details(self) -> str | None:
        return await self._call.details()


def headers(*items: tuple[str, str], end: bool = False) -> pb.HttpHeaders:
    values = [pb.HeaderValue(key=key, raw_value=value.encode()) for key, value in items]
    return pb.HttpHeaders(headers=pb.HeaderMap(headers=values), end_of_stream=end)


async def health(port: int, name: str) -> int:
    """Ask for the health of `name`."""
    async with connected(port) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer: int = (await check(health_pb2.HealthCheckRequest(service=name))).status
        return answer


@contextlib.asynccontextmanager
async def watched(port: int, name: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Watch the health of `name`: the function waits for the next status."""
    async with connected(port) as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        call = watch(health_pb2.HealthCheckRequest(service=name))

        async def heard() -> int:
            answer = await call.read()
            assert isinstance(answer, health_pb2.HealthCheckResponse)
            return int(answer.status)

        yield heard
        call.cancel()
