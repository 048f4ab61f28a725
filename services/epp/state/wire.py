"""What replicas say to each other, as bytes: batches in a pool's stream, and each replica's lease.

Both are msgpack. Arrays may grow at their end, which older readers ignore; anything else is another `VERSION`, whose
batches others skip. No moment of any machine's clock is in them, only ages: clocks need not agree. Servers are named
by address, as every replica numbers them otherwise.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence, Sized
from typing import Annotated

import msgspec
from msgspec import Meta

VERSION = 1
FIELD = b"b"
"""The one field of a stream's entries."""


Count = Annotated[int, Meta(ge=0, le=1 << 40)]
Amount = Annotated[float, Meta(ge=0, le=1e12)]
"""What is learnt from must be a number, and one that may be true: it would never be forgotten."""


class Pick(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A prompt was sent to a server."""

    number: Count
    """Of the decision among its replica's; 0 when its end is not told."""
    endpoint: int
    """Place in `Batch.names`, like `model`."""
    model: int
    age_ms: Count
    prompt_tokens: Count
    output_tokens: Count
    context_tokens: Count
    held: Count
    """Blocks of the prompt that the server already held."""
    parent: int
    """The last of these; 0 without."""
    blocks: bytes
    """The others, as by `pack`."""
    again: bool = False
    """It was told before, to Redis that has lost it: only what it says of prefixes is news."""


class Move(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A prompt went to another server than the pick said."""

    number: Count
    before: int
    after: int
    """Places in `Batch.names`."""
    prompt_tokens: Count
    held: Count
    """Blocks that the server before already held when it was picked."""
    blocks: bytes
    """All blocks of the prompt."""


class Vector(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that a replica has in flight at one server: the fields of `Load`."""

    endpoint: int
    requests: int
    prompt_tokens: int
    output_tokens: int
    context_tokens: int
    unseen: int
    finished: int


class End(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The end of a request, as the proxy told somebody who had not picked it: the fields of `records.Ended`."""

    decision: str
    outcome: str
    served: str | None
    status: Count
    attempts: Count
    seconds: Amount
    sent_after: Amount | None
    answered_after: Amount | None
    response_bytes: int


class Report(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a server said of itself: the fields of `Metrics`, and how long ago it was asked."""

    endpoint: int
    age_ms: Count
    waiting: int
    running: int
    kv_usage: float
    block_size: int
    num_blocks: int
    active_adapters: tuple[str, ...]
    waiting_adapters: tuple[str, ...]
    max_adapters: int
    started_at: float
    prompt_tokens_total: float


class Lesson(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a request taught of its server: the fields of `pace.Lesson`."""

    endpoint: int
    completed: bool
    broken: bool
    ahead: Amount
    stalls: Amount
    batch: Amount
    reads: Amount
    prompt_tokens: Count
    context_tokens: Count
    max_tokens: Count
    seconds: Amount
    first_token: Amount | None
    output_tokens: int
    again_tokens: Count = 0


class Binding(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A session's request went to a server."""

    plugin: int
    """Place in `Batch.names` of the plugin's name, like `endpoint`."""
    session: str
    endpoint: int
    age_ms: int


class Band(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What waits of one priority."""

    priority: int
    requests: Count
    bytes: int


class Served(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A request that waited had its turn."""

    priority: int
    flow: str
    tokens: int


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """What one replica has to say of one pool."""

    version: int
    owner: str
    seq: Count
    """Counts the owner's batches for this pool from 1."""
    whole: bool
    """What is not in `vectors` is nothing."""
    names: tuple[str, ...] = ()
    """Addresses and models; the others refer to them by place."""
    picks: tuple[Pick, ...] = ()
    moves: tuple[Move, ...] = ()
    passed: tuple[int, ...] = ()
    """Decisions whose prompt has been computed."""
    gone: tuple[int, ...] = ()
    """Decisions that `vectors` do not count any more."""
    vectors: tuple[Vector, ...] = ()
    ends: dict[str, tuple[msgspec.Raw, ...]] = {}
    """`End`s, by the replica that picked."""
    reports: tuple[Report, ...] = ()
    missed: tuple[int, ...] = ()
    """Servers that did not answer when they were asked."""
    lessons: tuple[Lesson, ...] = ()
    sessions: tuple[Binding, ...] = ()
    bands: tuple[Band, ...] | None = None
    """All that waits; None where that has not changed."""
    served: tuple[Served, ...] = ()
    late_ms: Count = 0
    """To be added to every age: the batch waited so long for a Redis that did not answer."""
    lost: tuple[str, ...] = ()
    """Proxies that closed their last stream to this replica."""
    held: tuple[str, ...] = ()
    """Proxies that do have one."""

    @property
    def waited(self) -> float:
        """How many seconds its first pick waited until it was told; 0 without picks."""
        return (max((pick.age_ms for pick in self.picks), default=0) + self.late_ms) / 1000

    @property
    def entries(self) -> int:
        """How many things it tells."""
        lines: tuple[Sized, ...] = (
            self.picks,
            self.moves,
            self.gone,
            self.vectors,
            self.ends,
            self.reports,
            self.missed,
            self.lessons,
            self.sessions,
            self.served,
            self.lost,
            self.held,
        )
        return sum(map(len, lines))


class _Head(msgspec.Struct, array_like=True, frozen=True):
    version: int


class UnknownVersion(ValueError):
    """Somebody speaks another version."""


class Corrupt(ValueError):
    """These bytes say nothing."""


_ENCODER = msgspec.msgpack.Encoder()
_BATCH = msgspec.msgpack.Decoder(Batch)
_HEAD = msgspec.msgpack.Decoder(_Head)
_END = msgspec.msgpack.Decoder(End)


def encode(batch: Batch) -> bytes:
    """Return `batch` as bytes."""
    return _ENCODER.encode(batch)


def decode(data: bytes) -> Batch:
    """Read what `encode` wrote; raise `UnknownVersion` or `Corrupt` for anything else."""
    try:
        batch = _BATCH.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _why_not(data, error) from error
    if batch.version != VERSION:
        raise UnknownVersion(f"version {batch.version}, expected {VERSION}")
    return batch


def encode_end(end: End) -> msgspec.Raw:
    """Return `end` as a part of a batch that only its addressee reads."""
    return msgspec.Raw(_ENCODER.encode(end))


def decode_end(data: msgspec.Raw) -> End:
    """Read what `encode_end` wrote; raise `Corrupt` for anything else."""
    try:
        return _END.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Corrupt(str(error)) from error


def pack(blocks: Sequence[int]) -> bytes:
    """Return block hashes as bytes, eight for each."""
    return struct.pack(f"<{len(blocks)}Q", *blocks)


def unpack(data: bytes) -> tuple[int, ...]:
    """Read what `pack` wrote; raise `Corrupt` for anything else."""
    try:
        return struct.unpack(f"<{len(data) // 8}Q", data)
    except struct.error as error:
        raise Corrupt(f"{len(data)} bytes of blocks") from error


def _why_not(data: bytes, error: Exception) -> ValueError:
    """Say whether `data` may well be good for somebody who knows its version."""
    try:
        version = _HEAD.decode(data).version
    except (msgspec.MsgspecError, ValueError):
        return Corrupt(str(error))
    return Corrupt(str(error)) if version == VERSION else UnknownVersion(f"version {version}")
