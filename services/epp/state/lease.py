"""A replica's lease on its part of a pool: that it lives, and what it has in flight, for people and tools to read.

A lease is a key with a time to live. Replicas themselves learn of each other from the stream. `keys` are the names of
everything in Redis; the pool's name is the hash tag, so that all of a pool is in one slot of a cluster.
"""

from __future__ import annotations

import msgspec

from services.epp.state.wire import VERSION, Corrupt, UnknownVersion

PREFIX = "igw"


class EndpointShare(msgspec.Struct, frozen=True):
    """What one replica has to do with one server."""

    endpoint: str
    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    context_tokens: int = 0
    picks: int = 0
    """All that it ever sent there."""
    prompt_bytes: int = 0
    """Of all these."""
    matched_bytes: int = 0
    """Of these bytes, what the server was believed to hold: the hit rate is their share."""
    scrapes: bool = False
    """It asks this server for its metrics, for all."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a lease's key."""

    version: int = VERSION
    owner: str
    """Eight hexadecimal digits, new with every start; the first part of its decision ids."""
    name: str
    """Host and process."""
    up_seconds: float
    degraded_seconds: float
    """In which it could not reach Redis."""
    lag_seconds: float
    """From a pick until its replicas could see it, lately."""
    dropped: int
    """What it never got to tell."""
    endpoints: tuple[EndpointShare, ...] = ()


_DECODER = msgspec.msgpack.Decoder(Lease)


def stream_key(prefix: str, pool: str) -> str:
    """Return the key of a pool's stream."""
    return f"{prefix}:{{{pool}}}:log"


def lease_key(prefix: str, pool: str, owner: str) -> str:
    """Return the key of a replica's lease; with `*` as the owner, the pattern of them all."""
    return f"{prefix}:{{{pool}}}:lease:{owner}"


def encode_lease(lease: Lease) -> bytes:
    """Return `lease` as bytes."""
    return msgspec.msgpack.encode(lease)


def decode_lease(data: bytes) -> Lease:
    """Read what `encode_lease` wrote; raise `UnknownVersion` or `Corrupt` for anything else."""
    try:
        lease = _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Corrupt(str(error)) from error
    if lease.version != VERSION:
        raise UnknownVersion(f"version {lease.version}, expected {VERSION}")
    return lease
