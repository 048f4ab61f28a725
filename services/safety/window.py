"""Events that wait for judges: at most a window of text, judged with the end of the window before. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from services.openai import sse
from services.openai.deltas import DONE, Reading, read
from services.openai.edits import replace_values
from services.openai.synth import Trail
from services.openai.texts import Json, Path, Text, Undecodable, decode
from services.safety.policy import Side, StreamMode

_AUDITED = (
    1024 * 1024
)  # characters that wait at most to be judged together when nothing waits for the verdict

TOKEN = 4  # characters of a token, as everywhere in the gateway where nobody has counted them


@dataclass(slots=True)
class _Queued:
    event: sse.Event
    document: Json = None
    reading: Reading = field(default_factory=lambda: Reading(None))

    @property
    def is_silent(self) -> bool:
        """Whether it says nothing that a judge reads."""
        return not self.reading.deltas and not any(text.scannable for text in self.reading.wholes)

    def change(self, edits: Mapping[Path, Json]) -> None:
        """Put other values in their places."""
        if edits and self.event.data is not None:
            data = replace_values(self.event.data, edits)
            self.event = sse.Event(self.event.with_data(data), data)


class Window:
    """Takes what the rules have left of a stream. What it shows is asked about; what it holds leaves on the answer."""

    def __init__(self, side: Side) -> None:
        self._size = side.window * TOKEN if side.stream is StreamMode.WINDOW else _AUDITED
        self._overlap = side.overlap * TOKEN
        self._framer = sse.Framer()
        self._trail = Trail()
        self._queue: list[_Queued] = []
        self._held: dict[Path, str] = {}
        self._before: dict[Path, str] = {}  # what has left of each text, its end
        self.ended = False

    @property
    def held(self) -> int:
        """Characters of text that wait."""
        return sum(map(len, self._held.values()))

    def take(self, data: bytes, *, end: bool = False) -> Iterator[list[Text]]:
        """Take a piece of the stream and yield what must be judged: answer each with `settle` before the next."""
        for event in self._framer.feed(data):
            yield from self._event(event if isinstance(event, sse.Event) else sse.Event(event.raw, None))
        if not end:
            return
        if rest := self._framer.flush():
            yield from self._event(rest)
        if self._held:
            yield self._shown()

    def settle(self, edits: Mapping[Path, Json]) -> bytes:
        """Return what leaves now that the judges have said what to change in what was shown last."""
        for number, queued in enumerate(self._queue):
            queued.change({path[2:]: text for path, text in edits.items() if path[:2] == (_WHOLE, number)})
        for key, held in self._held.items():
            before, text = self._before.get(key, ""), held
            if (_HELD, *key) in edits:
                text = _remainder(before, held, str(edits[(_HELD, *key)]))
                self._say(key, text)
            self._before[key] = (before + text)[-self._overlap :] if self._overlap else ""
        self._held.clear()
        return self.release()

    def release(self) -> bytes:
        """Return what nothing waits for."""
        if self._held:
            return b""
        queue, self._queue = self._queue, []
        return b"".join(self._leave(queued) for queued in queue)

    def end(self) -> bytes:
        """Return the events that end the answer here; no text that waits leaves."""
        self.ended = True
        silent = list(itertools.takewhile(lambda queued: queued.is_silent, self._queue))
        out = b"".join(self._leave(queued) for queued in silent)
        if self._trail.form is None and self._queue:
            self._trail.note(self._queue[0].reading.form, self._queue[0].document, ends=False)
        self._queue.clear()
        return out + self._trail.ending()

    def _leave(self, queued: _Queued) -> bytes:
        self._trail.note(queued.reading.form, queued.document)
        return queued.event.raw

    def _say(self, key: Path, text: str) -> None:
        """Let the first event that waits with a piece of `key` say all of `text`."""
        for queued in self._queue:
            for piece in queued.reading.deltas:
                if piece.key == key:
                    queued.change({piece.path: text})
                    text = ""

    def _event(self, event: sse.Event) -> Iterator[list[Text]]:
        queued = _read(event)
        reading = queued.reading
        if self._ended_by(reading) and not reading.deltas:
            yield self._shown()
        self._queue.append(queued)
        for text in reading.deltas:
            self._held[text.key] = self._held.get(text.key, "") + text.value
        wholes = any(text.scannable for text in reading.wholes)
        if wholes or self.held >= self._size or self._ended_by(reading):
            yield self._shown()

    def _ended_by(self, reading: Reading) -> bool:
        return any(key[: len(prefix)] == prefix for prefix in reading.closes for key in self._held)

    def _shown(self) -> list[Text]:
        said = {text.key: text for queued in self._queue for text in queued.reading.deltas}
        texts = [
            replace(said[key], path=(_HELD, *key), value=self._before.get(key, "") + held)
            for key, held in self._held.items()
        ]
        for number, queued in enumerate(self._queue):
            wholes = (text for text in queued.reading.wholes if text.scannable)
            texts += [replace(text, path=(_WHOLE, number, *text.path)) for text in wholes]
        return texts


_HELD, _WHOLE = "held", "whole"
"""First steps of the paths by which judges' edits come back."""


def _read(event: sse.Event) -> _Queued:
    if event.data is None or event.data.strip() == DONE:
        return _Queued(event)
    try:
        document = decode(event.data)
        return _Queued(event, document, read(document))
    except Undecodable:  # the rules' filter has let it pass: its policy says so
        return _Queued(event)


def _remainder(before: str, held: str, new: str) -> str:
    """Return what `new`, made of `before + held`, says in place of `held`: `before` has left already.

    A mask that begins in `before` leaves whole, in front of what follows it.
    """
    if new.startswith(before):
        return new[len(before) :]
    if new.endswith(held):  # only what has left was to change
        return held
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, new, strict=False))
    return new[sum(1 for _ in same) :]
