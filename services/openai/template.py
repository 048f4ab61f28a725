"""The shape that the events of a stream repeat: read one without decoding it, and give it another text.

Most events of a streamed answer differ from the one before in one string, the piece of text, and perhaps in a sequence
number or padding. Between these holes the bytes must be equal, so what is known of the first event holds for all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.openai.edits import encode_json, locate
from services.openai.texts import Json, Path, Text

_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+"')
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,15}")
_HOLES: Mapping[str, re.Pattern[bytes]] = {"sequence_number": _NUMBER, "obfuscation": _STRING}
"""Top-level fields of the responses dialect that change with every event and say nothing."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What one event puts into the holes."""

    text: str
    start: int
    end: int
    """Where the text stands in the event's data, quotes included."""
    number: int | None
    """The sequence number."""

    def with_text(self, data: bytes, text: str) -> bytes:
        """Return the event's data saying `text`."""
        return data[: self.start] + encode_json(text) + data[self.end :]


class Template:
    """Made of one event that says one piece of one text. `text` is that piece; its key names the text."""

    __slots__ = ("_holes", "_rest", "text")

    def __init__(self, data: bytes, document: Json, text: Text) -> None:
        wanted: dict[Path, re.Pattern[bytes]] = {text.path: _STRING}
        if isinstance(document, dict):
            wanted |= {(name,): hole for name, hole in _HOLES.items() if name in document}
        spans = locate(data, wanted)
        holes, cursor = [], 0
        for (start, end), path in sorted((span, path) for path, span in spans.items()):
            holes.append((data[cursor:start], start - cursor, wanted[path], path == text.path))
            cursor = end
        self.text = text
        self._holes = tuple(holes)
        self._rest = data[cursor:]

    def read(self, data: bytes) -> Filled | None:
        """Return what `data` says; None if it is not of this shape, or not plainly so."""
        at, text, place, number = 0, "", (0, 0), None
        for literal, length, hole, is_text in self._holes:
            if not data.startswith(literal, at) or not (found := hole.match(data, at + length)):
                return None
            at = found.end()
            if is_text:
                place = found.span()
                plain = _plain(data[place[0] + 1 : at - 1])
                if plain is None:
                    return None
                text = plain
            elif hole is _NUMBER:
                number = int(found[0])
            elif not found[0].isascii() or b"\\" in found[0]:
                return None
        if not data.endswith(self._rest) or at + len(self._rest) != len(data):
            return None
        return Filled(text, *place, number)


def _plain(inside: bytes) -> str | None:
    """Return what stands between the quotes; None where a strict decoder may refuse it."""
    try:
        if b"\\" in inside:
            value = json.loads(b'"%b"' % inside)
            return value if isinstance(value, str) else None
        return inside.decode()
    except ValueError:
        return None
