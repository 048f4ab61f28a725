"""Stand-ins for the three services, speaking ext_proc through Envoy's full API definitions.

They answer by rote, so that a test sees what Envoy does with its configuration and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
from betterproto2 import Message
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.data.accesslog.v3 import HttpAccessLogEntry
from envoy_data_plane.envoy.service.accesslog import v3 as als
from envoy_data_plane.envoy.service.discovery import v3 as discovery
from envoy_data_plane.envoy.service.ext_proc import v3 as ext_proc
from envoy_data_plane.google.protobuf import Any, Struct
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tools.gateway.binaries import find
from tools.gateway.envoy.addresses import Address, AddressBook

Context = grpc.aio.ServicerContext[Message, Message]


@dataclass
class Seen:
    """What one stub was told."""

    requests: list[dict[str, str]] = field(default_factory=list)
    contexts: list[dict[str, str]] = field(default_factory=list)
    attributes: list[dict[str, object]] = field(default_factory=list)
    metadata: list[dict[str, object]] = field(default_factory=list)
    responses: int = 0
    logs: list[HttpAccessLogEntry] = field(default_factory=list)
    logged: asyncio.Event = field(default_factory=asyncio.Event)

    def forget(self) -> None:
        for notes in (self.requests, self.contexts, self.attributes, self.metadata, self.logs):
            notes.clear()
        self.responses = 0
        self.logged.clear()


def headers_of(message: ext_proc.HttpHeaders) -> dict[str, str]:
    assert message.headers is not None
    return {h.key: (h.raw_value or h.value.encode()).decode() for h in message.headers.headers}


def metadata_of(message: ext_proc.ProcessingRequest) -> dict[str, object]:
    """Return the dynamic metadata that came with `message`, by namespace."""
    found = message.metadata_context.filter_metadata if message.metadata_context else {}
    return {namespace: values.to_dict() for namespace, values in found.items()}


def set_headers(values: dict[str, str]) -> ext_proc.HeaderMutation:
    overwrite = core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
    return ext_proc.HeaderMutation(
        set_headers=[
            core.HeaderValueOption(
                header=core.HeaderValue(key=key, raw_value=value.encode()), append_action=overwrite
            )
            for key, value in values.items()
        ]
    )


def passing(message: ext_proc.ProcessingRequest) -> ext_proc.ProcessingResponse:
    """Return the reply that changes nothing."""
    if message.request_headers:
        return ext_proc.ProcessingResponse(request_headers=ext_proc.HeadersResponse())
    if message.request_body:
        return ext_proc.ProcessingResponse(request_body=ext_proc.BodyResponse())
    if message.response_headers:
        return ext_proc.ProcessingResponse(response_headers=ext_proc.HeadersResponse())
    if message.response_trailers:
        return ext_proc.ProcessingResponse(response_trailers=ext_proc.TrailersResponse())
    assert message.response_body
    chunk = ext_proc.StreamedBodyResponse(
        body=message.response_body.body, end_of_stream=message.response_body.end_of_stream
    )
    mutation = ext_proc.BodyMutation(streamed_response=chunk)
    common = ext_proc.CommonResponse(body_mutation=mutation)
    return ext_proc.ProcessingResponse(response_body=ext_proc.BodyResponse(response=common))


def routed(model: str, digest: str) -> ext_proc.ProcessingResponse:
    """BBR's reply to a body: the model's headers, the digest, and a new choice of the route."""
    mutation = set_headers({"x-gateway-model-name": model, "x-gateway-base-model-name": model})
    common = ext_proc.CommonResponse(header_mutation=mutation, clear_route_cache=True)
    return ext_proc.ProcessingResponse(
        request_body=ext_proc.BodyResponse(response=common),
        dynamic_metadata=Struct.from_dict({"gw.bbr": {"digest": digest}}),
    )


def picked(endpoints: str, decision: str) -> ext_proc.ProcessingResponse:
    """Return the EPP's reply: an ordered list of endpoints and a decision id."""
    return ext_proc.ProcessingResponse(
        request_headers=ext_proc.HeadersResponse(),
        dynamic_metadata=Struct.from_dict(
            {"envoy.lb": {"x-gateway-destination-endpoint": endpoints}, "gw.epp": {"decision": decision}}
        ),
    )


Reply = Callable[[ext_proc.ProcessingRequest], ext_proc.ProcessingResponse]


ContextReply = Callable[[ext_proc.ProcessingRequest, dict[str, str]], ext_proc.ProcessingResponse]
"""A reply that also depends on the stream's initial metadata."""


def processor(seen: Seen, reply: Reply) -> grpc.GenericRpcHandler:
    """One ext_proc service that notes what it is told and answers by `reply`."""
    return contextual_processor(seen, lambda message, _: reply(message))


def contextual_processor(seen: Seen, reply: ContextReply) -> grpc.GenericRpcHandler:
    """Return the same for a service that routes tell something."""

    async def process(
        messages: AsyncIterator[ext_proc.ProcessingRequest], context: Context
    ) -> AsyncIterator[Message]:
        told = {key: str(value) for key, value in context.invocation_metadata() or ()}
        seen.contexts.append(told)
        async for message in messages:
            if message.request_headers:
                seen.requests.append(headers_of(message.request_headers))
                seen.attributes.append({k: v.to_dict() for k, v in message.attributes.items()})
                seen.metadata.append(metadata_of(message))
            if message.response_headers:
                seen.responses += 1
            yield reply(message, told)

    return _handler(
        "envoy.service.ext_proc.v3.ExternalProcessor", "Process", process, ext_proc.ProcessingRequest.parse
    )


def membership(pools: dict[str, list[int]]) -> grpc.GenericRpcHandler:
    """EDS for loopback servers: cluster name to ports."""

    async def stream(
        messages: AsyncIterator[discovery.DiscoveryRequest], _: Context
    ) -> AsyncIterator[Message]:
        async for message in messages:
            if message.response_nonce:
                continue
            names = [name for name in message.resource_names if name in pools]
            yield discovery.DiscoveryResponse(
                version_info="1",
                nonce="1",
                type_url=message.type_url,
                resources=[Any.pack(_assignment(name, pools[name])) for name in names],
            )

    return _handler(
        "envoy.service.endpoint.v3.EndpointDiscoveryService",
        "StreamEndpoints",
        stream,
        discovery.DiscoveryRequest.parse,
    )


def access_log(seen: Seen) -> grpc.GenericRpcHandler:
    async def stream(messages: AsyncIterator[als.StreamAccessLogsMessage], _: Context) -> Message:
        async for message in messages:
            if message.http_logs:
                seen.logs.extend(message.http_logs.log_entry)
                seen.logged.set()
        return als.StreamAccessLogsResponse()

    handler = grpc.stream_unary_rpc_method_handler(
        stream, request_deserializer=als.StreamAccessLogsMessage.parse, response_serializer=bytes
    )
    return grpc.method_handlers_generic_handler(
        "envoy.service.accesslog.v3.AccessLogService", {"StreamAccessLogs": handler}
    )


def free_ports(count: int) -> list[int]:
    """Return loopback ports on which nobody listens at the moment, so that runs side by side do not meet."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def free_book(*, bbr: int | None = None, safety: int | None = None, epp: int | None = None) -> AddressBook:
    """Return free ports for all that Envoy's configuration names; services that run have one already."""
    gateway, admin, own_bbr, own_safety, own_epp = free_ports(5)
    return AddressBook(
        gateway=Address("127.0.0.1", gateway),
        admin=Address("127.0.0.1", admin),
        bbr=Address("127.0.0.1", bbr or own_bbr),
        safety=Address("127.0.0.1", safety or own_safety),
        epp=Address("127.0.0.1", epp or own_epp),
    )


@contextlib.asynccontextmanager
async def serving(port: int, *handlers: grpc.GenericRpcHandler) -> AsyncIterator[None]:
    server = grpc.aio.server(
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20)]
    )
    server.add_generic_rpc_handlers(handlers)
    checks = health.aio.HealthServicer()
    for name in ("", "envoy.service.ext_proc.v3.ExternalProcessor"):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def model_server(port: int) -> AsyncIterator[list[bytes]]:
    """Answer every HTTP/1.1 request with the own port, and note the requests' heads."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                heads.append(head)
                length = next(
                    (
                        int(line[15:])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length:")
                    ),
                    0,
                )
                await reader.readexactly(length)
                answer = str(port).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield heads
    finally:
        server.close()


@contextlib.asynccontextmanager
async def running_envoy(
    config: Path, admin: Address, *, members: int, healthy: int = 4
) -> AsyncIterator[None]:
    """Run real Envoy until the block ends; begin once it knows `members` of pools and finds `healthy` services (EPP twice)."""
    process = await asyncio.create_subprocess_exec(
        find().envoy, "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "error"
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://{admin}") as http:
            while not await _ready(http, members + healthy):
                assert process.returncode is None, "Envoy did not start"
                await asyncio.sleep(0.05)
        yield
    finally:
        process.terminate()
        await process.wait()


async def _ready(http: httpx.AsyncClient, hosts: int) -> bool:
    try:
        found = (await http.get("/clusters")).text.count("health_flags::healthy")
        return found >= hosts and (await http.get("/ready")).is_success
    except httpx.TransportError:
        return False


def _assignment(name: str, ports: list[int]) -> endpoint.ClusterLoadAssignment:
    hosts = [
        endpoint.LbEndpoint(
            endpoint=endpoint.Endpoint(
                address=core.Address(socket_address=core.SocketAddress(address="127.0.0.1", port_value=port))
            )
        )
        for port in ports
    ]
    return endpoint.ClusterLoadAssignment(
        cluster_name=name, endpoints=[endpoint.LocalityLbEndpoints(lb_endpoints=hosts)]
    )


def _handler(
    service: str, method: str, behaviour: Callable[..., object], parse: Callable[[bytes], Message]
) -> grpc.GenericRpcHandler:
    handler: grpc.RpcMethodHandler[Message, Message] = grpc.stream_stream_rpc_method_handler(
        behaviour, request_deserializer=parse, response_serializer=bytes
    )
    return grpc.method_handlers_generic_handler(service, {method: handler})
