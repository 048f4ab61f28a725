"""The ports of a service: gRPC servers with the options that Envoy needs, and what to say when a port is taken."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterable

import grpc

from services.extproc.config import Limits
from services.extproc.errors import BindError

SLACK = 1024 * 1024
"""A message is a body and its frame: headers, metadata with a digest."""
PING_INTERVAL_MS = 5_000
"""Envoy's `connection_keepalive` may ping as often as this; the default of 300 s would answer with GOAWAY."""


def options(limits: Limits) -> list[tuple[str, int]]:
    """Return the server's channel arguments."""
    return [
        # A second process on the same port would get all streams or none, as streams follow the connection.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.body_bytes + SLACK),
        ("grpc.max_concurrent_streams", limits.concurrent_streams),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MS),
        ("grpc.http2.max_ping_strikes", 0),
    ]


def bind(server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
    """Add a port to `server` and return its number; raise `BindError` when it cannot be had."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    _probe(host, port)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise BindError.on(host, port, error) from error


def _probe(host: str, port: int) -> None:
    """Bind the port once: gRPC does not say why it cannot, and logs a line of its own."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise BindError.on(host, port, error) from error


@contextlib.asynccontextmanager
async def grpc_server(
    handlers: Iterable[grpc.GenericRpcHandler], limits: Limits, *, grace: float
) -> AsyncIterator[grpc.aio.Server]:
    """Give a server that is not yet started, and stop it after the block: open streams get `grace` seconds."""
    server = grpc.aio.server(options=options(limits))
    server.add_generic_rpc_handlers(tuple(handlers))
    try:
        yield server
    finally:
        await server.stop(grace)
