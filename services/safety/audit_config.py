"""Where audit records may go, as configuration says it."""

from __future__ import annotations

from typing import Annotated

import msgspec


class FileSink(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of JSON lines. Full, it becomes PATH.1, PATH.1 becomes PATH.2 and so on."""

    path: str
    max_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 64 * 1024 * 1024
    keep: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    """Files, the current one not counted."""


class RedisSink(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A Redis Stream with one field `record` per entry."""

    url: str
    stream: str = "safety:audit"
    max_length: Annotated[int, msgspec.Meta(ge=1)] = 100_000
    """Entries after which the oldest go, about."""


class AuditConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where records go. The log always has those with findings or with something left unjudged."""

    file: FileSink | None = None
    redis: RedisSink | None = None
    buffer: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    """Records that wait for a slow sink; further ones are dropped and counted."""
