"""What replicas of the endpoint picker have in Redis, read for people: their leases and each pool's stream."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from redis.asyncio import Redis

from services.epp.state.lease import Lease, decode_lease, lease_key, stream_key
from services.epp.state.replies import id_of
from services.epp.state.wire import Corrupt, UnknownVersion

ANY = "*"


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


async def gather(redis: Redis, prefix: str) -> list[Pool]:
    """Read everything. Raises what the client raises."""
    names = {_pool_of(key.decode()) async for key in redis.scan_iter(f"{prefix}:{{*}}:*", count=1000)}
    return [await _pool(redis, prefix, name) for name in sorted(names)]


def _pool_of(key: str) -> str:
    return key.partition("{")[2].partition("}")[0]


async def _pool(redis: Redis, prefix: str, name: str) -> Pool:
    stream = stream_key(prefix, name)
    entries = int(await redis.xlen(stream))
    leases, unreadable = [], []
    async for key in redis.scan_iter(lease_key(prefix, _escaped(name), ANY), count=1000):
        value, left = await redis.get(key), await redis.pttl(key)
        if not isinstance(value, bytes):  # it has ended since
            continue
        try:
            leases.append((decode_lease(value), max(0, left) / 1000))
        except (Corrupt, UnknownVersion) as error:
            unreadable.append(f"{key.decode()}: {error}")
    return Pool(
        pool=name,
        stream_entries=entries,
        stream_bytes=int(await redis.memory_usage(stream) or 0) if entries else 0,
        stream_age_seconds=await _age(redis, stream) if entries else None,
        replicas=sorted((_replica(*lease) for lease in leases), key=lambda replica: replica.name),
        endpoints=endpoints([lease for lease, _ in leases]),
        unreadable=unreadable,
    )


def _escaped(name: str) -> str:
    """Return `name` as a pattern that matches itself alone."""
    return "".join(f"\\{letter}" if letter in "*?[]^\\" else letter for letter in name)


async def _age(redis: Redis, stream: str) -> float | None:
    newest = await redis.xrevrange(stream, count=1)
    if not newest:
        return None
    seconds, micros = await redis.time()
    return max(0.0, seconds + micros / 1e6 - id_of(newest[0][0])[0] / 1000)


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
