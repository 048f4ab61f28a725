"""Server-sent events, cut anywhere: bytes in, complete events with their own bytes out. Knows nothing of JSON.

Framing as in the HTML standard, section "Server-sent events": lines end in CR, LF or CRLF, a blank line ends an
event, a line that starts with a colon is a comment, several `data` lines are joined by a line feed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_EVENT = 4 * 1024 * 1024  # bytes; the last event of the responses dialect repeats the whole answer

# A carriage return at the end of the buffer may be half of a CRLF: it is not yet a line end.
_EOL = re.compile(rb"\r\n|\n|\r(?!\n|\Z)")
_EOL_AT_END = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z))(?:\r\n|\n|\r(?!\n|\Z))")
_LONGEST_BLANK = 4  # bytes of CRLF CRLF
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it came: `raw` is every byte of it, comments and blank line included."""

    raw: bytes
    data: bytes | None
    """The joined `data` lines; None for comments, blank lines and events without data."""

    def with_data(self, data: bytes) -> bytes:
        """Return the event's bytes with other data; its other lines and its line ends stay as they are."""
        written, out = False, bytearray()
        for line, eol in _lines(self.raw):
            if _field(line)[0] != b"data":
                out += line + eol
            elif not written:
                written = True
                bom = _BOM if line.startswith(_BOM) else b""
                out += bom + b"".join(b"data: " + part + (eol or b"\n") for part in data.split(b"\n"))
        return bytes(out)

    def place(self, at: int) -> int:
        """Return where byte `at` of `data` stands in `raw`."""
        start = before = 0
        for line, eol in _lines(self.raw):
            name, value = _field(line)
            if name == b"data":
                if at <= before + len(value):
                    return start + len(line) - len(value) + at - before
                before += len(value) + 1  # the line feed that joins
            start += len(line) + len(eol)
        raise IndexError(at)


@dataclass(frozen=True, slots=True)
class TooLong:
    """More than the framer's limit came without the end of an event. `raw` is what it held; nothing follows."""

    raw: bytes


class Framer:
    """Cuts one stream into events. Holds at most `limit` bytes of an event that is not complete."""

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0
        self._broken = False

    def feed(self, data: bytes) -> list[Event | TooLong]:
        """Return the events that `data` completes. After a `TooLong` nothing more comes out."""
        if self._broken:
            return []
        if not self._buffer and _is_one_event(data):  # what a model server writes is mostly what arrives
            return [parse(data)]
        self._buffer += data
        events: list[Event | TooLong] = []
        start = 0
        while (end := self._end_of_event(start)) is not None:
            events.append(parse(bytes(self._buffer[start:end])))
            start = self._searched = end
        del self._buffer[:start]
        self._searched = max(0, len(self._buffer) - _LONGEST_BLANK)
        if len(self._buffer) > self._limit:
            self._broken = True
            events.append(TooLong(self._take()))
        return events

    def flush(self) -> Event | None:
        """Return what is left when the stream ends without a final blank line."""
        return parse(self._take()) if self._buffer else None

    def _end_of_event(self, start: int) -> int | None:
        blank = _EOL.match(self._buffer, start) or _BLANK_LINE.search(
            self._buffer, max(start, self._searched)
        )
        return blank.end() if blank else None

    def _take(self) -> bytes:
        held = bytes(self._buffer)
        self._buffer.clear()
        return held


def parse(raw: bytes) -> Event:
    """Read the bytes of one event."""
    lines = raw.split(b"\n") if b"\r" not in raw else [line for line, _ in _lines(raw)]
    data = [value for name, value in map(_field, lines) if name == b"data"]
    return Event(raw, b"\n".join(data) if data else None)


def event(data: bytes, name: str | None = None) -> bytes:
    """Return the bytes of a new event; `data` is one line."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + data + b"\n\n"


def _is_one_event(data: bytes) -> bool:
    return data.find(b"\n\n") == len(data) - 2 > 0 and not data.startswith(b"\n") and b"\r" not in data


def _lines(raw: bytes) -> list[tuple[bytes, bytes]]:
    lines, start = [], 0
    for eol in _EOL_AT_END.finditer(raw):
        lines.append((raw[start : eol.start()], eol.group()))
        start = eol.end()
    if start < len(raw):
        lines.append((raw[start:], b""))
    return lines


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.removeprefix(_BOM).partition(b":")
    return name, value.removeprefix(b" ")
