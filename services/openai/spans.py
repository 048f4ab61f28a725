"""Where the top-level values of a JSON object stand, byte for byte, and how one of them is replaced.

The whole body is checked against the JSON grammar, in C and without building its values. Only names and spans of
the top level come out, so the cost is that of reading the bytes once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, cast

import msgspec

from services.openai.errors import PeekError, Reason

MAX_FIELDS = 1000
"""Top-level fields of one body. APIs define about fifty; a 16 MiB body of nothing but keys would hold millions,
and each costs a Python object."""

_KEY = re.compile(rb'[ \t\r\n]*+[{,][ \t\r\n]*+"[^"\\]*+(?:\\.[^"\\]*+)*+"[ \t\r\n]*+:[ \t\r\n]*+')
"""From the end of one value to the start of the next, in bytes that are known to be valid JSON."""

_HALF_CHARACTER = re.compile(rb"\\u[dD](?:[89abAB]..(?!\\u[dD][c-fC-F])|[c-fC-F])")
_WHERE = re.compile(r"(?:JSON is malformed: )?(.*) \(byte (\d+)\)")


Span = tuple[int, int]
"""Start and end of a value in its body, in bytes."""


class Field(NamedTuple):
    """A top-level field: its decoded name, and `body[start:end]`, its value as written."""

    name: str
    start: int
    end: int


class _Key:
    """A key that equals only itself, so that a name given twice stays two entries of one dict."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Counter:
    """Makes the keys of one body, and stops at `MAX_FIELDS` before the decoder has built them all."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def key(self, _type: type, name: str) -> _Key:
        self.count += 1
        if self.count > MAX_FIELDS:
            raise PeekError(Reason.TOO_MANY_FIELDS, f"body has more than {MAX_FIELDS} top-level fields")
        return _Key(name)


def top_level(body: bytes) -> list[Field]:
    """Return the top-level fields of a JSON object in the order of the body, repeated names included.

    Raises `PeekError` for anything that is not one JSON object in UTF-8.
    """
    _check_text(body)
    fields, at = [], 0
    for key, value in _decode(body).items():
        start = cast("re.Match[bytes]", _KEY.match(body, at)).end()  # the decoder has seen this key
        at = start + len(memoryview(value))
        fields.append(Field(key.name, start, at))
    return fields


class Fields:
    """Fields by name. One given twice is refused when it is asked for, because readers differ on which counts."""

    __slots__ = ("_repeated", "_spans")

    def __init__(self, fields: Iterable[Field]) -> None:
        self._spans: dict[str, Span] = {}
        self._repeated: set[str] = set()
        for field in fields:
            if field.name in self._spans:
                self._repeated.add(field.name)
            self._spans[field.name] = (field.start, field.end)

    def find(self, name: str) -> Span | None:
        """Return where the value of `name` stands, or None."""
        if name in self._repeated:
            raise PeekError(Reason.DUPLICATE_FIELD, f"field {name!r} is given more than once", param=name)
        return self._spans.get(name)

    def get(self, name: str) -> Span:
        """Return where the value of `name` stands; refuse a body without it."""
        if (span := self.find(name)) is None:
            raise PeekError(Reason.FIELD_MISSING, f"field {name!r} is missing", param=name)
        return span


def splice(body: bytes, span: Span, new: bytes) -> bytes:
    """Return `body` with the bytes of `span` replaced by `new`."""
    view = memoryview(body)
    return b"".join((view[: span[0]], new, view[span[1] :]))


def _check_text(body: bytes) -> None:
    if not body.strip(b" \t\r\n"):
        raise PeekError(Reason.EMPTY_BODY, "body is empty, expected a JSON object")
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise PeekError(Reason.NOT_UTF8, f"body is not UTF-8: {error.reason} at byte {error.start}") from None


def _decode(body: bytes) -> dict[_Key, msgspec.Raw]:
    try:
        return msgspec.json.decode(body, type=dict[_Key, msgspec.Raw], dec_hook=_Counter().key)
    except msgspec.ValidationError as error:
        kind = str(error).rpartition("got ")[2].strip("`")
        raise PeekError(Reason.NOT_AN_OBJECT, f"body must be a JSON object, not {kind}") from None
    except msgspec.DecodeError as error:
        raise PeekError(Reason.INVALID_JSON, f"body is not valid JSON: {_why(body, str(error))}") from None
    except RecursionError:
        raise PeekError(Reason.TOO_DEEP, "body is nested too deeply") from None


def _why(body: bytes, text: str) -> str:
    """Put the decoder's complaint into words with a position."""
    if known := _WHERE.fullmatch(text):
        return f"{known[1]} at byte {known[2]}"
    # The decoder calls both of these truncated.
    if half := _HALF_CHARACTER.search(body):
        return f"half a surrogate pair at byte {half.start()}"
    return f"it ends too early, at byte {len(body)}"
