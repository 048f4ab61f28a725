"""What replicas of the endpoint picker have in Redis, read for people: their leases and each pool's stream."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Protocol

import msgspec

from services.epp.state.lease import Lease, decode_lease, lease_key, stream_key
from services.epp.state.replies import entries_of
from services.epp.state.wire import Corrupt, UnknownVersion

ANY = "*"


class Client(Protocol):
    """What is asked of a Redis client, whatever the topology behind it."""

    def execute_command(self, *args: bytes | str | float) -> Awaitable[object]:
        """Send a command and return its answer in redis-py's types."""


class Endpoint(msgspec.Struct, frozen=True):
    """One model server, as all replicas together see it."""

    endpoint: str
    requests: int
    """In flight."""
    prompt_tokens: int
    """Of these, to be computed still: not cached."""
    output_tokens: int
    picks: int
    """By the replicas that live, since each of them started."""
    hit_rate: float
    """Share of the prompts' bytes that the server was believed to hold, 0 to 1."""
    scraped_by: list[str]
    """Names of the replicas that ask it for metrics, for all."""


class Replica(msgspec.Struct, frozen=True):
    """One process of the endpoint picker that holds a lease on a pool."""

    owner: str
    name: str
    up_seconds: float
    lease_seconds: float
    """Left of its lease; it is renewed several times in its life."""
    lag_seconds: float
    degraded_seconds: float
    dropped: int
    requests: int
    """In flight."""
    picks: int


class Pool(msgspec.Struct, frozen=True):
    """One pool."""

    pool: str
    stream_entries: int
    stream_bytes: int
    stream_age_seconds: float | None
    """Of its newest entry, by the clock of Redis; None of an empty stream."""
    replicas: list[Replica]
    endpoints: list[Endpoint]
    unreadable: list[str]
    """Keys of leases that are of another version, or broken."""


async def gather(redis: Client, prefix: str) -> list[Pool]:
    """Read everything. Raises what the client raises."""
    names = {_pool_of(key) for key in await _keys(redis, f"{_escaped(prefix)}:{{*}}:*")}
    return [await _pool(redis, prefix, name) for name in sorted(names)]


async def _keys(redis: Client, pattern: str) -> list[str]:
    cursor: object = 0
    found: set[str] = set()
    while isinstance(cursor, int):
        answer = await redis.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        cursor, keys = answer if isinstance(answer, tuple) else (None, ())
        found |= {key.decode() for key in keys}
        if cursor == 0:
            return sorted(found)
    # A cluster has a cursor for each of its nodes. This asks all of them at once.
    every = await redis.execute_command("KEYS", pattern)
    return sorted(key.decode() for key in every) if isinstance(every, list) else []


def _pool_of(key: str) -> str:
    return key.partition("{")[2].partition("}")[0]


async def _pool(redis: Client, prefix: str, name: str) -> Pool:
    stream = stream_key(prefix, name)
    entries = _number(await redis.execute_command("XLEN", stream))
    leases, unreadable = [], []
    for key in await _keys(redis, lease_key(_escaped(prefix), _escaped(name), ANY)):
        value = await redis.execute_command("GET", key)
        left = _number(await redis.execute_command("PTTL", key))
        if not isinstance(value, bytes):  # it has ended since
            continue
        try:
            leases.append((decode_lease(value), max(0, left) / 1000))
        except (Corrupt, UnknownVersion) as error:
            unreadable.append(f"{key}: {error}")
    return Pool(
        pool=name,
        stream_entries=entries,
        stream_bytes=_number(await redis.execute_command("MEMORY USAGE", stream)),
        stream_age_seconds=await _age(redis, stream),
        replicas=sorted((_replica(*lease) for lease in leases), key=lambda replica: replica.name),
        endpoints=endpoints([lease for lease, _ in leases]),
        unreadable=unreadable,
    )


def _number(answer: object) -> int:
    """Return a number that Redis gave; 0 for nothing."""
    return answer if isinstance(answer, int) else 0


def _escaped(name: str) -> str:
    """Return `name` as a pattern that matches itself alone."""
    return "".join(f"\\{letter}" if letter in "*?[]^\\" else letter for letter in name)


async def _age(redis: Client, stream: str) -> float | None:
    newest = entries_of(await redis.execute_command("XREVRANGE", stream, "+", "-", "COUNT", 1))
    now = await redis.execute_command("TIME")
    if not newest or not isinstance(now, tuple):  # nodes of a cluster each have their own time
        return None
    seconds, micros = now
    return max(0.0, int(seconds) + int(micros) / 1e6 - newest[0][0][0] / 1000)


def _replica(lease: Lease, left: float) -> Replica:
    return Replica(
        owner=lease.owner,
        name=lease.name,
        up_seconds=round(lease.up_seconds, 1),
        lease_seconds=left,
        lag_seconds=lease.lag_seconds,
        degraded_seconds=round(lease.degraded_seconds, 3),
        dropped=lease.dropped,
        requests=sum(share.requests for share in lease.endpoints),
        picks=sum(share.picks for share in lease.endpoints),
    )


def endpoints(leases: Iterable[Lease]) -> list[Endpoint]:
    """Return the sums of what the replicas say of each server, in the order of the addresses."""
    shares = [(lease.name, share) for lease in leases for share in lease.endpoints]
    found = []
    for address in sorted({share.endpoint for _, share in shares}):
        own = [share for _, share in shares if share.endpoint == address]
        asked = sum(share.prompt_bytes for share in own)
        found.append(
            Endpoint(
                endpoint=address,
                requests=sum(share.requests for share in own),
                prompt_tokens=sum(share.prompt_tokens for share in own),
                output_tokens=sum(share.output_tokens for share in own),
                picks=sum(share.picks for share in own),
                hit_rate=round(sum(share.matched_bytes for share in own) / asked, 4) if asked else 0.0,
                scraped_by=[name for name, share in shares if share.endpoint == address and share.scrapes],
            )
        )
    return found
