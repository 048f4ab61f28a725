"""A streamed answer under a policy: bytes in, bytes out, no I/O. An event that nothing concerns leaves as it came.

An event of which nothing but spaces could leave waits as a whole: mostly the next piece shows it to be harmless, and
both leave unchanged. Events that say nothing but a piece of a text that is masked are made one.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from services.openai import sse
from services.openai.deltas import DONE, Form, Reading, read
from services.openai.edits import replace_values
from services.openai.synth import Trail
from services.openai.template import Filled, Template
from services.openai.texts import Json, Path, Text, Undecodable, decode
from services.safety.holdback import Released, Tail
from services.safety.judge import UNDECODABLE, Tally, judge, size, skip, without_logprobs
from services.safety.policy import Side
from services.safety.verdict import State
from services.safety.waiting import Waiting

_SHAPES = 8  # texts that take turns: choices, tool calls, reasoning and content


class StreamFilter:
    """One streamed answer. After a block `ended` is true and nothing more may be sent."""

    def __init__(self, side: Side, tally: Tally) -> None:
        self._side = side
        self._tally = tally
        self._framer = sse.Framer()
        self._trail = Trail()
        self._tails: dict[Path, tuple[Text, Tail]] = {}
        self._shapes: list[Template] = []
        self._waiting: Waiting | None = None
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
        out = self._event(rest) if rest else b""
        yield out
        if not self.ended and (closing := self._close_all()):
            # An event cut short lacks its blank line.
            yield b"\n\n" + closing if out and not out.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")) else closing

    def _event(self, event: sse.Event) -> bytes:
        data = event.data
        if data is None:
            return event.raw
        for position, shape in enumerate(self._shapes):
            if (filled := shape.read(data)) is not None:
                if position:
                    self._shapes.insert(0, self._shapes.pop(position))
                return self._piece(event, data, shape.text.key, filled, new=False)
        if data.strip() == DONE:
            return self._close_all() + (b"" if self.ended else event.raw)
        try:
            document = decode(data)
            reading = read(document)
        except Undecodable:
            return self._unreadable(event.raw)
        return self._known(event, data, document, reading)

    def _piece(self, event: sse.Event, data: bytes, key: Path, filled: Filled, *, new: bool) -> bytes:
        """Follow an event of a shape that is known: it says one piece of the text `key` and nothing else."""
        before = b"" if self._waiting is None or self._waiting.key == key else self._let_go()
        if filled.number is not None:
            self._trail.count(filled.number)
        tail = self._tails[key][1]
        released = self._follow(tail, key, filled.text)
        if self._waiting is None and released.text == filled.text and not released.block:
            return before + event.raw
        waiting = self._waiting or Waiting(key, keep=self._trail.form is Form.RESPONSES)
        self._waiting = waiting
        waiting.add(event, data, filled, released.text, new=new)
        if released.block:
            return before + self._let_go() + self._end()
        return before + (b"" if tail.held and waiting.is_patient else self._let_go())

    def _let_go(self, more: str = "") -> bytes:
        waiting, self._waiting = self._waiting, None
        return waiting.release(more) if waiting else b""

    def _known(self, event: sse.Event, data: bytes, document: Json, reading: Reading) -> bytes:
        here = {text.key: text for text in reading.deltas}
        if (filled := self._learn(data, document, reading)) is not None:
            return self._piece(event, data, reading.deltas[0].key, filled, new=True)
        out = b"" if self._waiting and _ends(self._waiting.key, reading, here) else self._let_go()
        edits: dict[Path, Json] = {}
        for text in reading.deltas:
            self._delta(text, edits)
        edits |= judge([text for text in reading.wholes if text.scannable], self._side, self._tally)
        out += b"".join(self._close(prefix, here, edits) for prefix in reading.closes)
        edits |= self._opaque(document, reading)
        if self._tally.block:
            return out + self._last(reading, document, edits) + self._end()
        edits |= self._renumbered(document)
        self._trail.note(reading.form, document)
        return out + (event.with_data(replace_values(data, edits)) if edits else event.raw)

    def _learn(self, data: bytes, document: Json, reading: Reading) -> Filled | None:
        """Keep the shape of an event that says one piece of a text that goes on, and nothing else; read it."""
        if len(reading.deltas) != 1 or reading.wholes or self._trail.added:
            return None
        (text,) = reading.deltas
        if any(key[: len(prefix)] == prefix for prefix in reading.closes for key in (text.key, *self._tails)):
            return None
        shape = Template(data, document, text)
        if (filled := shape.read(data)) is not None:
            self._tail(text)
            self._shapes = [shape, *self._shapes[: _SHAPES - 1]]
            self._trail.note(reading.form, document)
        return filled

    def _opaque(self, document: Json, reading: Reading) -> dict[Path, Json]:
        opaque = [text for text in reading.wholes if not text.scannable]
        for text in opaque:
            skip(text, self._side, self._tally)
        hide = self._side.enforces and self._side.drop_logprobs
        return without_logprobs(opaque, document) if hide else {}

    def _renumbered(self, document: Json) -> dict[Path, Json]:
        number = document.get("sequence_number") if isinstance(document, dict) else None
        if not self._trail.added or not isinstance(number, int):
            return {}
        return {("sequence_number",): number + self._trail.added}

    def _tail(self, text: Text) -> Tail:
        known = self._tails.get(text.key)
        if known is None:
            self._shapes.clear()  # an event of a known shape may end the new text, and would not tell
        tail = known[1] if known else self._tally.tail(self._side, text)
        self._tails[text.key] = (text, tail)
        return tail

    def _delta(self, text: Text, edits: dict[Path, Json]) -> None:
        released = self._follow(self._tail(text), text.path, text.value)
        if released.text != text.value:
            edits[text.path] = released.text

    def _follow(self, tail: Tail, path: Path, piece: str) -> Released:
        released = tail.feed(piece)
        self._tally.scanned += size(piece)
        self._tally.add(path, released)
        self.most_held = max(self.most_held, tail.held)
        return released

    def _close(self, prefix: Path, here: dict[Path, Text], edits: dict[Path, Json]) -> bytes:
        """End the texts under `prefix`: what they hold leaves in this event's delta, else in one of its own before."""
        out = b""
        for key in [key for key in self._tails if key[: len(prefix)] == prefix]:
            text, tail = self._tails.pop(key)
            self._shapes.clear()
            released = tail.feed("", final=True)
            self._tally.add(text.path, released)
            if self._waiting and self._waiting.key == key:
                out += self._let_go(released.text)
            elif released.text and key in here:
                current = edits.get(here[key].path, here[key].value)
                edits[here[key].path] = f"{current}{released.text}"
            elif released.text:
                out += self._trail.delta(key, released.text)
        return out

    def _last(self, reading: Reading, document: Json, edits: dict[Path, Json]) -> bytes:
        """Return what the event that blocks says before the match, in events of our own; nothing of whole texts."""
        self._trail.note(reading.form, document, ends=False)
        said = ((text.key, edits.get(text.path, text.value)) for text in reading.deltas)
        return b"".join(self._trail.delta(key, str(text)) for key, text in said if text)

    def _close_all(self) -> bytes:
        out = self._close((), {}, {})
        return out + (self._end() if self._tally.block else b"")

    def _too_long(self, event: sse.TooLong) -> bytes:
        self._through = self._side.fail_open
        return self._unreadable(event.raw)

    def _unreadable(self, raw: bytes) -> bytes:
        self._tally.not_judged(UNDECODABLE, len(raw), self._side, State.SKIPPED)
        out = self._let_go()
        return out + (self._end() if self._tally.block else raw)

    def _end(self) -> bytes:
        self.ended = True
        return self._trail.ending()


def _ends(key: Path, reading: Reading, here: Container[Path]) -> bool:
    """Whether the text `key` ends with an event that says nothing more of it."""
    return key not in here and any(key[: len(prefix)] == prefix for prefix in reading.closes)
