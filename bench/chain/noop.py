"""An ext_proc server that lets everything pass: `python -m bench.chain.noop PORT`, on loopback.

What it costs is Envoy's and grpc.aio's share, the floor under every service. It does not even parse: the first byte
of a ProcessingRequest is the tag of its one field that matters, and the reply to it is the field of the same name,
empty, whose number is one lower for headers and bodies alike.
"""

from __future__ import annotations

import sys

import grpc.aio
import uvloop

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
REPLIES = {
    0x12: b"\x0a\x00",  # request_headers, 2 → 1
    0x1A: b"\x12\x00",  # response_headers, 3 → 2
    0x22: b"\x1a\x00",  # request_body, 4 → 3
    0x2A: b"\x22\x00",  # response_body, 5 → 4
    0x32: b"\x2a\x00",  # request_trailers, 6 → 5
    0x3A: b"\x32\x00",  # response_trailers, 7 → 6
}


async def process(_: object, context: grpc.aio.ServicerContext[object, bytes]) -> None:
    """Answer every message with its empty reply."""
    while isinstance(message := await context.read(), bytes):
        await context.write(REPLIES[message[0]])


async def healthy(_: object, __: object) -> bytes:
    """Answer a health check: SERVING."""
    return b"\x08\x01"


async def serve(port: int) -> None:
    """Listen until killed."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    generic = grpc.method_handlers_generic_handler
    server.add_generic_rpc_handlers(
        [
            generic(SERVICE, {"Process": grpc.stream_stream_rpc_method_handler(process)}),
            generic("grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(healthy)}),
        ]
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
