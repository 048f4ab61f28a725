"""Put another model name into an answer and change no other byte: whole JSON bodies, and streams of events.

Only the places where a dialect says which model answered are looked at: the top level of a body or event, `response`
in the events of the Responses API, `message` in Anthropic's `message_start`. A name inside content or arguments is text.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from services.openai.errors import PeekError
from services.openai.spans import Field, Span, top_level
from services.openai.sse import MAX_EVENT, Event, Framer, TooLong

_NESTED = (("response", "response.", False), ("message", "message_start", True))
"""The field with the answer in it, the event's type, and whether that is the whole of the type or its beginning."""


def rename(body: bytes, name: str) -> bytes:
    """Return a JSON body with `name` as its model. What is no JSON object, or names no model, is returned as it is."""
    return _renamed(body, _own(body), name) if _may_name(body) else body


EVENTS = "text/event-stream"


def media_type(content_type: str, content_encoding: str) -> str:
    """Return the media type, empty where the body is compressed: such bytes mean nothing here."""
    if (content_encoding or "identity").lower() != "identity":
        return ""
    return content_type.partition(";")[0].strip().lower()


def renamer(kind: str, name: str) -> EventRenamer | WholeRenamer | None:
    """Return what puts `name` into an answer of the media type `kind`; None for one without a model in it."""
    if kind == EVENTS:
        return EventRenamer(name)
    return WholeRenamer(name) if kind == "application/json" or kind.endswith("+json") else None


class WholeRenamer:
    """Renames a body that comes in one piece."""

    def __init__(self, name: str) -> None:
        self._name = name

    def feed(self, data: bytes, *, end: bool) -> bytes:  # noqa: ARG002 - it is the whole
        """Return it with its new name."""
        return rename(data, self._name)


class EventRenamer:
    """Renames the events of one stream, cut anywhere. An event over `limit` bytes ends the renaming, not the stream."""

    def __init__(self, name: str, limit: int = MAX_EVENT) -> None:
        self._name = name
        self._framer = Framer(limit)
        self._broken = False

    def feed(self, data: bytes, *, end: bool) -> bytes:
        """Return the bytes that can leave now: complete events, and what is left at the end."""
        if self._broken:
            return data
        out = [self._event(event) for event in self._framer.feed(data)]
        if end and (rest := self._framer.flush()) is not None:
            out.append(self._event(rest))
        return b"".join(out)

    def _event(self, event: Event | TooLong) -> bytes:
        if isinstance(event, TooLong):
            self._broken = True
            return event.raw
        if event.data is None or not _may_name(event.data):
            return event.raw
        spans = [(event.place(start), event.place(end)) for start, end in _everywhere(event.data)]
        return _renamed(event.raw, spans, self._name)


def _renamed(text: bytes, spans: list[Span], name: str) -> bytes:
    value = msgspec.json.encode(name)
    out, cursor = [], 0
    for start, end in spans:
        out += [text[cursor:start], value]
        cursor = end
    return b"".join((*out, text[cursor:])) if spans else text


def _may_name(text: bytes) -> bool:
    """Say whether the cheap look finds the key, or an escape that could spell it."""
    return b'model"' in text or b"\\u" in text


def _own(document: bytes) -> list[Span]:
    return _models(document, _fields(document))


def _everywhere(document: bytes) -> list[Span]:
    fields = _fields(document)
    return sorted([*_models(document, fields), *_nested(document, fields)])


def _fields(document: bytes) -> list[Field]:
    try:
        return top_level(document)
    except PeekError:
        return []


def _models(document: bytes, fields: list[Field]) -> list[Span]:
    """Return the `model` values that are strings; all of them, as readers of a repeated key differ."""
    return [(start, end) for name, start, end in fields if name == "model" and document[start] == ord('"')]


def _nested(document: bytes, fields: list[Field]) -> Iterator[Span]:
    kinds = [_string(document[start:end]) for name, start, end in fields if name == "type"]
    for name, start, end in fields:
        for field, kind, whole in _NESTED:
            if name == field and any(one == kind if whole else one.startswith(kind) for one in kinds):
                yield from ((start + first, start + last) for first, last in _own(document[start:end]))


def _string(raw: bytes) -> str:
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else ""
