"""What the standard library makes of bytes that our readers only peek at: a difference is an `AssertionError`.

Made for any bytes at all, so that a fuzzer can drive it as well as hypothesis.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence

from services.openai.answer_model import EventRenamer, rename
from services.openai.dialects import Dialect
from services.openai.errors import PeekError, Reason
from services.openai.peek import Peek, peek, rewrite
from services.openai.spans import MAX_FIELDS, Field, top_level
from services.openai.sse import Framer, TooLong

NEW = 'n"é'
DEPTH = 200
"""Levels that both decoders take; beyond, each gives up where its stack ends."""
DIGITS = 4_000
"""Of one number; the standard library refuses to build longer ones."""


class NotJson(ValueError):
    """The standard library refuses the bytes."""


class Repeated(list[tuple[str, object]]):
    """An object with all its pairs, repeated keys included."""


def decode(body: bytes) -> object:
    """Decode strictly. Half a surrogate pair is refused too: UTF-8 cannot say what it means."""
    try:
        text = body.decode()
        value = json.loads(text, object_pairs_hook=Repeated, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from error
    return value


def comparable(body: bytes) -> bool:
    """Say whether both decoders are within their bounds."""
    depth = body.count(b"[") + body.count(b"{")
    return depth < DEPTH and body.count(b":") < MAX_FIELDS and not re.search(rb"\d{%d}" % DIGITS, body)


def check_body(body: bytes) -> None:
    """Compare the top level: the same bytes accepted, the same names and values, and a rewrite of the model alone."""
    found, value = _fields(body), _decoded(body)
    assert (found is not None) is isinstance(value, Repeated), "one accepts what the other refuses"
    if found is None or not isinstance(value, Repeated):
        return
    assert [(name, decode(body[start:end])) for name, start, end in found] == list(value)
    _check_rewrite(body, value)


def check_rename(body: bytes) -> None:
    """Compare an answer with another model: changed where a full decode finds one at the top."""
    after = rename(body, NEW)
    value = _decoded(body)
    assert _decoded(after) == renamed(value, event=False)
    if not isinstance(value, Repeated):
        assert after == body


def check_stream(wire: bytes, cuts: Iterable[int]) -> None:
    """Compare the events: the same data however they are cut, no byte lost, each renamed as a full decode would."""
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    pieces = [wire[start:end] for start, end in itertools.pairwise(edges)]
    framer = Framer()
    events = [event for piece in pieces for event in framer.feed(piece)]
    if (rest := framer.flush()) is not None:
        events.append(rest)
    whole = [event for event in events if not isinstance(event, TooLong)]
    assert b"".join(event.raw for event in whole) == wire
    data = [event.data for event in whole if event.data is not None]
    assert data == frames(wire)
    _check_renamed(pieces, data)


def frames(wire: bytes) -> list[bytes]:
    """Return the data of every event, by the HTML standard read line by line; an event that does not end counts too."""
    found: list[bytes] = []
    held: list[bytes] = []
    for line in [*re.split(rb"\r\n|\n|\r", wire), b""]:
        name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        if name == b"data":
            held.append(value.removeprefix(b" "))
        elif not line and held:
            found.append(b"\n".join(held))
            held = []
    return found


def renamed(value: object, *, event: bool) -> object:
    """Return a decoded answer as it should be after renaming."""
    if not isinstance(value, Repeated):
        return value
    kinds = [inner for key, inner in value if key == "type" and isinstance(inner, str)]

    def member(key: str, inner: object) -> object:
        if key == "model" and isinstance(inner, str):
            return NEW
        nested = (key == "response" and any(kind.startswith("response.") for kind in kinds)) or (
            key == "message" and "message_start" in kinds
        )
        return renamed(inner, event=False) if event and nested else inner

    return Repeated((key, member(key, inner)) for key, inner in value)


def _check_rewrite(body: bytes, value: Repeated) -> None:
    names = [inner for key, inner in value if key == "model"]
    seen, reason = _peeked(body)
    if seen is None:
        repeated = len({key for key, _ in value}) < len(value)
        wrong = bool(names) and not (names[0] is None or isinstance(names[0], str))
        assert repeated if reason is Reason.DUPLICATE_FIELD else wrong, reason
        return
    model = names[0] if names and isinstance(names[0], str) else ""
    assert seen.model == (model if model.strip() else "")
    after = Repeated((key, NEW if key == "model" else inner) for key, inner in value)
    assert decode(rewrite(body, seen, NEW)) == (after if names else Repeated([("model", NEW), *value]))


def _fields(body: bytes) -> list[Field] | None:
    try:
        return top_level(body)
    except PeekError:
        return None


def _peeked(body: bytes) -> tuple[Peek | None, Reason | None]:
    try:
        return peek(body, Dialect.OTHER, model_optional=True), None
    except PeekError as error:
        return None, error.reason


def _check_renamed(pieces: Sequence[bytes], data: list[bytes]) -> None:
    renamer = EventRenamer(NEW)
    ends = [False] * (len(pieces) - 1) + [True]
    after = b"".join(renamer.feed(piece, end=end) for piece, end in zip(pieces, ends, strict=bool(pieces)))
    found = frames(after)
    assert len(found) == len(data)
    for before, now in zip(data, found, strict=True):
        value = _decoded(before)
        assert (_decoded(now) == renamed(value, event=True)) if isinstance(value, Repeated) else now == before


def _decoded(body: bytes) -> object:
    """Return the decoded body, or what tells that it is none."""
    try:
        return decode(body)
    except NotJson:
        return NotJson


def _refuse(name: str) -> object:
    raise ValueError(name)
