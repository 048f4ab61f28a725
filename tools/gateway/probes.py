"""Is it up? Small questions to each part, asked until the answer is yes."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import msgspec

from tools.gateway.envoy.addresses import LOOPBACK

INTERVAL_SECONDS = 0.05
REQUEST_SECONDS = 5.0


class _SocketAddress(msgspec.Struct):
    address: str
    port_value: int


class _Address(msgspec.Struct):
    socket_address: _SocketAddress | None = None


class _Health(msgspec.Struct):
    failed_active_health_check: bool = False


class _Host(msgspec.Struct):
    address: _Address
    health_status: _Health


class _Cluster(msgspec.Struct):
    name: str
    host_statuses: list[_Host] = []


class _Clusters(msgspec.Struct):
    """Envoy's `/clusters?format=json`, as far as it is read here."""

    cluster_statuses: list[_Cluster] = []


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again. The caller bounds the time."""
    while not await ask():  # noqa: ASYNC110 - other processes set no Event of ours
        await asyncio.sleep(INTERVAL_SECONDS)


async def accepts(port: int) -> bool:
    """Say whether somebody listens on the loopback port."""
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


async def pongs(port: int) -> bool:
    """Say whether a Redis-protocol server answers on the loopback port."""
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(b"PING\r\n")
        answer = await reader.readline()
    except OSError:
        return False
    writer.close()
    return answer.startswith(b"+PONG")


async def get(url: str) -> bytes | None:
    """Return the body of a 200 answer, None for any other outcome."""
    return await asyncio.to_thread(_get, url)


async def answers(url: str) -> bool:
    """Say whether `url` answers 200."""
    return await get(url) is not None


def usable_members(clusters: bytes) -> dict[str, list[str]]:
    """Return cluster → `host:port` of the members that Envoy would use, from `/clusters?format=json`."""
    reply = msgspec.json.decode(clusters, type=_Clusters)
    return {
        cluster.name: [
            f"{socket.address}:{socket.port_value}"
            for host in cluster.host_statuses
            # Envoy's own internal listener has no socket.
            if (socket := host.address.socket_address) and not host.health_status.failed_active_health_check
        ]
        for cluster in reply.cluster_statuses
    }


def _get(url: str) -> bytes | None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or LOOPBACK, parts.port, timeout=REQUEST_SECONDS)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
        response = connection.getresponse()
        return response.read() if response.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
