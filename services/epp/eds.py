"""Serve the pools' membership to Envoy: EDS over gRPC, state of the world (xDS protocol, `StreamEndpoints`).

What Envoy may use and what the picker picks from are then one list. A cluster asks for the resource `pool-<name>`,
which is its own name when it sets no `service_name`. Envoy keeps what it has when this goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping

import grpc
import structlog
from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.endpoint.v3 import Endpoint as EdsEndpoint
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.protobuf import Any as AnyMessage

from services.epp.endpoints import split
from services.epp.pool import Pool
from services.epp.proxies import Proxies
from services.epp.records import Observer
from services.extproc.background import background

SERVICE = "envoy.service.endpoint.v3.EndpointDiscoveryService"
METHOD = "StreamEndpoints"
TYPE_URL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
CLUSTER_PREFIX = "pool-"


class Changes:
    """Wakes every subscriber when membership changes."""

    def __init__(self) -> None:
        self._events: set[asyncio.Event] = set()

    def notify(self) -> None:
        """Wake all."""
        for event in self._events:
            event.set()

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Event]:
        """Give an event that is set at every change, and once at the beginning."""
        event = asyncio.Event()
        event.set()
        self._events.add(event)
        try:
            yield event
        finally:
            self._events.discard(event)


class Subscription:
    """One stream's conversation, without the stream: requests in, responses that are due out."""

    def __init__(self, pools: Mapping[str, Pool], observer: Observer) -> None:
        self._pools = pools
        self._observer = observer
        self._names: tuple[str, ...] = ()
        self._sent: tuple[tuple[str, int], ...] = ()
        self._nonce = 0
        self._log = structlog.get_logger()

    def receive(self, request: DiscoveryRequest) -> None:
        """Take in a subscription, an ACK or a NACK."""
        if request.response_nonce and request.response_nonce != str(self._nonce):
            return  # an answer to an older response; the answer to the newest is on its way
        if request.response_nonce:
            self._answered(request)
        names = tuple(request.resource_names)
        if names != self._names:
            self._names = names
            unknown = [name for name in names if self._pool(name) is None]
            if unknown:
                self._log.warning("proxy asks for unknown pools", resources=unknown)

    def due(self) -> DiscoveryResponse | None:
        """Return what the proxy does not have yet. A refused version is not sent again until something changes.

        A pool without members is left out: an empty list would take the servers from a proxy that still knows them,
        at the moment when this process has just started or its DNS is down.
        """
        pools = {name: pool for name in self._names if (pool := self._pool(name)) and pool.snapshot.servers}
        state = tuple((name, pool.version) for name, pool in sorted(pools.items()))
        if not state or state == self._sent:
            return None
        self._sent = state
        self._nonce += 1
        return DiscoveryResponse(
            version_info=str(self._nonce),
            nonce=str(self._nonce),
            type_url=TYPE_URL,
            resources=[_resource(name, pool) for name, pool in sorted(pools.items())],
        )

    def _pool(self, name: str) -> Pool | None:
        return self._pools.get(name.removeprefix(CLUSTER_PREFIX)) if name.startswith(CLUSTER_PREFIX) else None

    def _answered(self, request: DiscoveryRequest) -> None:
        error = request.error_detail
        self._observer.membership(accepted=error is None)
        if error is None:
            self._log.debug("proxy accepted membership", version=request.version_info)
        else:
            self._log.error("proxy refused membership", version=str(self._nonce), error=error.message)


class EndpointDiscovery:
    """The gRPC service."""

    def __init__(
        self, pools: Mapping[str, Pool], changes: Changes, observer: Observer, proxies: Proxies
    ) -> None:
        self._pools = pools
        self._changes = changes
        self._observer = observer
        self._proxies = proxies

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server registers."""
        method = grpc.stream_stream_rpc_method_handler(
            self._stream, request_deserializer=DiscoveryRequest.parse, response_serializer=bytes
        )
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})

    async def _stream(
        self,
        requests: AsyncIterator[DiscoveryRequest],
        context: grpc.aio.ServicerContext[DiscoveryRequest, DiscoveryResponse],
    ) -> None:
        subscription = Subscription(self._pools, self._observer)
        with self._changes.subscribe() as due, self._proxies.stream(context.peer()) as named:
            async with background(_push(subscription, due, context)):
                async for request in requests:
                    named(request.node.id if request.node else "")
                    subscription.receive(request)
                    due.set()


async def _push(
    subscription: Subscription,
    due: asyncio.Event,
    context: grpc.aio.ServicerContext[DiscoveryRequest, DiscoveryResponse],
) -> None:
    while True:
        await due.wait()
        due.clear()
        response = subscription.due()
        if response is not None:
            await context.write(response)


def assignment(name: str, pool: Pool) -> ClusterLoadAssignment:
    """Return the members of `pool` as Envoy's message, under the resource name that was asked for."""
    members = [LbEndpoint(endpoint=_endpoint(server.address)) for server in pool.snapshot.servers]
    return ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=members)])


def _endpoint(address: str) -> EdsEndpoint:
    host, port = split(address)
    return EdsEndpoint(address=Address(socket_address=SocketAddress(address=host, port_value=port)))


def _resource(name: str, pool: Pool) -> AnyMessage:
    return AnyMessage(type_url=TYPE_URL, value=bytes(assignment(name, pool)))
