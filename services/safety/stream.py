"""A streamed answer under a policy: bytes in, bytes out, no I/O. An event that nothing concerns leaves as it came."""

from __future__ import annotations

from collections.abc import Iterator

from services.openai import sse
from services.openai.deltas import DONE, Reading, read
from services.openai.edits import replace_values
from services.openai.synth import Trail
from services.openai.texts import Json, Path, Text, Undecodable, decode
from services.safety.holdback import Tail
from services.safety.judge import UNDECODABLE, Tally, is_json, judge, size, skip, without_logprobs
from services.safety.policy import Side


class StreamFilter:
    """One streamed answer. After a block `ended` is true and nothing more may be sent."""

    def __init__(self, side: Side, tally: Tally) -> None:
        self._side = side
        self._tally = tally
        self._framer = sse.Framer()
        self._trail = Trail()
        self._tails: dict[Path, tuple[Text, Tail]] = {}
        self._through = False
        self.ended = False
        self.most_held = 0
        """The most bytes of one text that ever had to wait."""

    def feed(self, data: bytes, *, end: bool = False) -> bytes:
        """Return what leaves in place of `data`; `end` says that the answer ends with it."""
        return b"".join(self._feed(data, end=end))

    def _feed(self, data: bytes, *, end: bool) -> Iterator[bytes]:
        if self._through:
            yield data
            return
        for event in () if self.ended else self._framer.feed(data):
            if not self.ended:
                yield self._too_long(event) if isinstance(event, sse.TooLong) else self._event(event)
        if end and not self.ended:
            yield from self._finish()

    def _finish(self) -> Iterator[bytes]:
        rest = self._framer.flush()
        if rest:
            yield self._event(rest)
        if not self.ended and (closing := self._close_all()):
            yield b"\n\n" + closing if rest else closing  # an event cut short lacks its blank line

    def _event(self, event: sse.Event) -> bytes:
        if event.data is None:
            return event.raw
        if event.data.strip() == DONE:
            return self._close_all() + (b"" if self.ended else event.raw)
        try:
            document = decode(event.data)
            reading = read(document)
        except Undecodable:
            return self._unreadable(event.raw)
        return self._known(event, event.data, document, reading)

    def _known(self, event: sse.Event, data: bytes, document: Json, reading: Reading) -> bytes:
        edits: dict[Path, Json] = {}
        here: dict[Path, Text] = {}
        for text in reading.deltas:
            here[text.key] = text
            self._delta(text, edits)
        edits |= judge((text for text in reading.wholes if text.scannable), self._side, self._tally)
        before = b"".join(self._close(prefix, here, edits) for prefix in reading.closes)
        opaque = [text for text in reading.wholes if not text.scannable]
        for text in opaque:
            skip(text, self._side, self._tally)
        if self._side.enforces and self._side.drop_logprobs:
            edits |= without_logprobs(opaque, document)
        if not self._tally.block or self._trail.form is None:
            self._trail.note(reading.form, document)
        if self._tally.block:
            return self._end()
        return before + (event.with_data(replace_values(data, edits)) if edits else event.raw)

    def _delta(self, text: Text, edits: dict[Path, Json]) -> None:
        known = self._tails.get(text.key)
        tail = known[1] if known else Tail(self._side, is_json=is_json(text))
        self._tails[text.key] = (text, tail)
        released = tail.feed(text.value)
        self._tally.scanned += size(text.value)
        self._tally.add(text, released)
        self.most_held = max(self.most_held, tail.held)
        if released.text != text.value:
            edits[text.path] = released.text

    def _close(self, prefix: Path, here: dict[Path, Text], edits: dict[Path, Json]) -> bytes:
        """End the texts under `prefix`: what they hold leaves in this event's delta, else in one of its own before."""
        out = b""
        for key in [key for key in self._tails if key[: len(prefix)] == prefix]:
            text, tail = self._tails.pop(key)
            released = tail.feed("", final=True)
            self._tally.add(text, released)
            if released.text and key in here:
                current = edits.get(here[key].path, here[key].value)
                edits[here[key].path] = f"{current}{released.text}"
            elif released.text:
                out += self._trail.delta(key, released.text)
        return out

    def _close_all(self) -> bytes:
        out = self._close((), {}, {})
        return self._end() if self._tally.block else out

    def _too_long(self, event: sse.TooLong) -> bytes:
        self._through = self._side.fail_open
        return self._unreadable(event.raw)

    def _unreadable(self, raw: bytes) -> bytes:
        self._tally.skip(UNDECODABLE, len(raw))
        if self._side.fail_open:
            return raw
        self._tally.block = UNDECODABLE
        return self._end()

    def _end(self) -> bytes:
        self.ended = True
        return self._trail.ending()
