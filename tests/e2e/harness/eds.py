"""An endpoint discovery server that says what a test tells it: state of the world, one stream per Envoy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc.aio
from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.protobuf import Any

from tests.e2e.harness.envoy import Config

TYPE_URL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(slots=True)
class Eds:
    """A running server. `push` changes the members of the cluster `name` in every Envoy that listens."""

    name: str
    port: int = 0
    ports: tuple[int, ...] = ()
    version: int = 1
    acknowledged: int = 0
    refused: list[str] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def push(self, *ports: int) -> None:
        """Announce loopback `ports` as the only members and return when Envoy has acknowledged them."""
        async with self._changed:
            self.ports, self.version = ports, self.version + 1
            wanted = self.version
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self.acknowledged >= wanted)

    def cluster(self) -> Config:
        """Return what Envoy's cluster needs to take its members from here; the server is the cluster `xds`."""
        source = {"envoy_grpc": {"cluster_name": "xds"}}
        api = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [source]}
        config = {"resource_api_version": "V3", "api_config_source": api}
        return {"name": self.name, "type": "EDS", "eds_cluster_config": {"eds_config": config}}

    async def stream(self, _: object, context: Context) -> None:
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self._send(context))
            try:
                while isinstance(raw := await context.read(), bytes):
                    await self._heard(DiscoveryRequest.parse(raw))
            finally:
                sender.cancel()

    async def _heard(self, request: DiscoveryRequest) -> None:
        if request.error_detail is not None:
            self.refused.append(request.error_detail.message)
        async with self._changed:
            self.acknowledged = int(request.version_info or 0)
            self._changed.notify_all()

    async def _send(self, context: Context) -> None:
        sent = 0
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self.version > sent)  # noqa: B023 - awaited here
                sent = self.version
            await context.write(bytes(self._response()))

    def _response(self) -> DiscoveryResponse:
        sockets = [SocketAddress(address="127.0.0.1", port_value=port) for port in self.ports]
        members = [
            LbEndpoint(endpoint=Endpoint(address=Address(socket_address=socket))) for socket in sockets
        ]
        group = LocalityLbEndpoints(lb_endpoints=members)
        assignment = ClusterLoadAssignment(cluster_name=self.name, endpoints=[group] if members else [])
        resource = Any(type_url=TYPE_URL, value=bytes(assignment))
        version = str(self.version)
        return DiscoveryResponse(version_info=version, nonce=version, type_url=TYPE_URL, resources=[resource])


@contextlib.asynccontextmanager
async def eds_running(name: str) -> AsyncIterator[tuple[Eds, grpc.aio.Server]]:
    """Run a server for the cluster `name`, without members at first; a test may stop the gRPC server early."""
    eds, server = Eds(name), grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(eds.stream)
    service = "envoy.service.endpoint.v3.EndpointDiscoveryService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"StreamEndpoints": handler}),)
    )
    eds.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield eds, server
    finally:
        await server.stop(None)
