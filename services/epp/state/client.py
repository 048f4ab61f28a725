"""A Redis client for what the URL says: one server, whoever a Sentinel names, or a cluster.

    redis://[[user]:password@]host[:port][/db]              rediss:// for TLS, unix:///path for a socket
    redis+sentinel://[...@]host[:port][,host[:port]...]/service[/db]
    redis+cluster://[...@]host[:port][,host[:port]...]

Parameters after `?` are redis-py's, such as `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection, ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import ReadOnlyError, RedisClusterException, ResponseError

from services.epp.config import Redis as Settings
from services.extproc.config import ConfigError

PASSWORD = "INFERENCE_GATEWAY_REDIS_PASSWORD"  # noqa: S105 - the name of the variable that holds it
REDIS_PORT, SENTINEL_PORT = 6379, 26379

Argument = bytes | str | int | float
"""Of a command."""
Command = Sequence[Argument]
Options = dict[str, Any]
"""redis-py's keyword arguments."""


class Server:
    """One server, or the primary that a Sentinel names.

    Its own connections, one for each exchange at a time, are used below redis-py's commands, which cost twice as much as
    all the rest of an exchange. They connect when they have to, as redis-py says.
    """

    def __init__(self, client: Redis, sentinels: Sequence[Redis] = ()) -> None:
        self._client = client
        self._sentinels = sentinels
        self._idle: list[AbstractConnection] = []

    async def execute(self, *commands: Command) -> list[object]:
        """Send commands at once and return their answers, of which some may be errors."""
        connection = self._idle.pop() if self._idle else await self._connection()
        try:
            if not connection.is_connected:
                # Not left to sending, which asks no Sentinel.
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            answers = [await _answer(connection) for _ in commands]
        except (ConnectionFailed, OSError, RuntimeError) as error:
            for other in self._idle:  # what broke one has most likely broken all
                await other.disconnect(nowait=True)
            # RuntimeError is uvloop's word for writing to a connection that was broken since.
            raise ConnectionFailed(str(error)) from error
        finally:
            self._idle.append(connection)
        if any(isinstance(answer, ReadOnlyError) for answer in answers):
            # It is no primary any more: whoever is must be looked for, by name or by Sentinel.
            await self._client.connection_pool.disconnect()
        return answers

    async def _connection(self) -> AbstractConnection:
        found: AbstractConnection = await self._client.connection_pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's
        return found

    async def execute_command(self, *args: Argument) -> object:
        """Send one command and return its answer, in redis-py's own types."""
        answer: object = await self._client.execute_command(*args)  # type: ignore[no-untyped-call]  # redis-py's
        return answer

    async def aclose(self) -> None:
        """Close all connections."""
        for connection in self._idle:
            await self._client.connection_pool.release(connection)
        self._idle.clear()
        for client in (self._client, *self._sentinels):
            await client.aclose()


async def _answer(connection: AbstractConnection) -> object:
    try:
        return await connection.read_response(timeout=math.inf)
    except ConnectionFailed:
        raise  # also where the server said so: it still loads, or takes no more connections
    except ResponseError as error:
        return error


class Cluster:
    """A cluster. Everything about a pool is in one slot; the library finds who has it."""

    def __init__(self, client: RedisCluster) -> None:
        self._client = client

    async def execute(self, *commands: Command) -> list[object]:
        """Send commands one after the other and return their answers, of which some may be errors."""
        answers: list[object] = []
        for command in commands:
            try:
                answers.append(await self.execute_command(*command))
            except ResponseError as error:
                answers.append(error)
        return answers

    async def execute_command(self, *args: Argument) -> object:
        """Send a command and return its answer."""
        try:
            return await self._client.execute_command(*args)
        except RedisClusterException as error:  # which is no RedisError
            raise ConnectionFailed(str(error)) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


def connect(settings: Settings, environment: Mapping[str, str] = os.environ) -> Server | Cluster:
    """Return a client that has not connected yet; raise `ConfigError` for what it cannot be made of.

    It never tries twice and has no timeout for answers: whoever asks knows better.
    """
    try:
        scheme, hosts, options = _parse(settings.url)
    except ValueError as error:
        raise ConfigError(f"$.redis.url: {error}") from error
    options |= _password(settings, environment) | {
        "protocol": 2,  # all of them speak it, and its answers look alike
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": settings.timeout_seconds,
    }
    if scheme.endswith("+cluster"):
        return Cluster(_cluster(hosts, options))
    if scheme.endswith("+sentinel"):
        return _sentinel(hosts, options, settings.timeout_seconds)
    return Server(Redis.from_pool(ConnectionPool(**options)))


def _parse(url: str) -> tuple[str, list[tuple[str, int]], Options]:
    """Return the scheme, all hosts, and what else the URL says. Raises ValueError."""
    scheme, separator, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    if not separator or base not in {"redis", "rediss", "unix"} or kind not in {"", "sentinel", "cluster"}:
        raise ValueError("expected redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    if not kind:
        return scheme, [], {**parse_url(url)}
    parts = urlsplit(f"{base}://{rest}")
    login, at, places = parts.netloc.rpartition("@")
    port = SENTINEL_PORT if kind == "sentinel" else REDIS_PORT
    hosts = [_host(place, port) for place in places.split(",")]
    service, _, db = parts.path.strip("/").partition("/")
    if (kind == "sentinel") is not bool(service):
        raise ValueError("a Sentinel URL names the service after the hosts, a cluster has no path")
    options = parse_url(f"{base}://{login}{at}{hosts[0][0]}/{db}{'?' if parts.query else ''}{parts.query}")
    return scheme, hosts, {**options, "service": service}


def _host(place: str, default: int) -> tuple[str, int]:
    found = urlsplit(f"//{place}")
    if not found.hostname:
        raise ValueError(f"expected host:port, got {place!r}")
    return found.hostname, found.port or default


def _password(settings: Settings, environment: Mapping[str, str]) -> Options:
    """Return the password from where it is not on anybody's command line."""
    if settings.password_file:
        try:
            return {"password": Path(settings.password_file).read_text(encoding="utf-8").strip()}
        except OSError as error:
            raise ConfigError(f"$.redis.password_file: {error}") from error
    return {"password": environment[PASSWORD]} if PASSWORD in environment else {}


def _sentinel(hosts: list[tuple[str, int]], options: Options, timeout: float) -> Server:
    service, tls = options.pop("service"), options.pop("connection_class", None) is SSLConnection
    del options["host"]
    each = timeout / (len(hosts) + 1)  # all of them are asked in turn, and the primary, within one operation
    asking = {
        "socket_timeout": each,
        "socket_connect_timeout": each,
        "retry": Retry(NoBackoff(), 0),
        "ssl": tls,
    }
    sentinel = Sentinel(hosts, sentinel_kwargs=asking, **options, ssl=tls)  # type: ignore[no-untyped-call]  # redis-py's
    return Server(sentinel.master_for(service), sentinel.sentinels)


def _cluster(hosts: list[tuple[str, int]], options: Options) -> RedisCluster:
    for unused in ("service", "host", "db"):
        options.pop(unused, None)
    tls = options.pop("connection_class", None) is SSLConnection
    retry = options.pop("retry")
    nodes = [ClusterNode(host, port) for host, port in hosts]
    return RedisCluster(startup_nodes=nodes, ssl=tls, retry=retry, **options)
