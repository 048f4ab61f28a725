"""Redis' answers as values. A shape that no Redis gives is an error of the connection."""

from __future__ import annotations

from redis.exceptions import InvalidResponse

from services.epp.state.wire import FIELD

Id = tuple[int, int]
"""Of a stream's entry: milliseconds by the clock of Redis, and a count within."""
BEGINNING: Id = (0, 0)


def id_of(answer: object) -> Id:
    """Read an entry's id."""
    if not isinstance(answer, bytes):
        raise InvalidResponse(f"expected an id, got {answer!r}")
    ms, _, count = answer.partition(b"-")
    return int(ms), int(count)


def text_of(id_: Id) -> str:
    """Return an id as commands take it."""
    return f"{id_[0]}-{id_[1]}"


def entries_of(answer: object) -> list[tuple[Id, bytes]]:
    """Read what XRANGE gives: ids and what our field holds; empty where an entry lacks it."""
    if not isinstance(answer, list):
        raise InvalidResponse(f"expected entries, got {answer!r}")
    return [(id_of(id_), _ours(fields)) for id_, fields in answer]


def _ours(fields: object) -> bytes:
    """Return what our field holds, of names and values in turns or of redis-py's dictionary."""
    found: object = b""
    if isinstance(fields, list):
        found = next(
            (value for name, value in zip(fields[::2], fields[1::2], strict=True) if name == FIELD), b""
        )
    elif isinstance(fields, dict):
        found = fields.get(FIELD, b"")
    return found if isinstance(found, bytes) else b""


def first_of(answer: object) -> list[tuple[Id, bytes]]:
    """Read what XREAD gives of one stream; nothing new is no entries."""
    if not answer:
        return []
    if not isinstance(answer, list):
        raise InvalidResponse(f"expected streams, got {answer!r}")
    return entries_of(answer[0][1])
