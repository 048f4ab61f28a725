"""Events that wait for judges: at most a window of each text, the end of which waits for the next window too. Pure.

What a judge finds in a window it finds whole, or it began in the last `overlap` tokens, which have not left: nothing of
a match that is no longer than these leaves, wherever windows end. An event leaves whole or waits whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from services.openai import sse
from services.openai.deltas import DONE, Reading, read
from services.openai.edits import replace_values
from services.openai.synth import Trail
from services.openai.texts import Json, Path, Text, Undecodable, decode
from services.safety.changes import Change, change
from services.safety.policy import Side, StreamMode
from services.safety.verdict import Located

_AUDITED = (
    1024 * 1024
)  # characters that wait at most to be judged together when nothing waits for the verdict

TOKEN = 4  # characters of a token, as everywhere in the gateway where nobody has counted them

HELD, _WHOLE = "held", "whole"
"""First steps of the paths by which judges' edits and findings come back."""


@dataclass(slots=True)
class _Queued:
    event: sse.Event
    document: Json = None
    reading: Reading = field(default_factory=lambda: Reading(None))
    waits: int = 0
    """Pieces of text in it that may not leave yet."""

    @property
    def is_silent(self) -> bool:
        """Whether it says nothing that a judge reads."""
        return not self.reading.deltas and not any(text.scannable for text in self.reading.wholes)

    def change(self, edits: Mapping[Path, Json]) -> None:
        """Put other values in their places."""
        if edits and self.event.data is not None:
            data = replace_values(self.event.data, edits)
            self.event = sse.Event(self.event.with_data(data), data)


@dataclass(slots=True)
class _Piece:
    """What one queued event says of a text."""

    queued: _Queued
    text: Text
    value: str

    def say(self, value: str) -> None:
        if value != self.value:
            self.value = value
            self.queued.change({self.text.path: value})


@dataclass(slots=True)
class _Followed:
    """One text: what waits of it."""

    pieces: list[_Piece] = field(default_factory=list)
    size: int = 0
    """Characters of these."""
    base: int = 0
    """Characters that have left."""
    shown_at: int = 0
    """Of these, how many had when it was shown last."""
    fresh: bool = False
    """Some of it no judge has seen."""
    ended: bool = False
    sure: int = 0
    """Findings that begin before this offset of what was shown last will not be told again."""

    @property
    def value(self) -> str:
        return "".join(piece.value for piece in self.pieces)

    def add(self, queued: _Queued, text: Text) -> None:
        """Take what an event says; it waits."""
        self.pieces.append(_Piece(queued, text, text.value))
        self.size += len(text.value)
        self.fresh, self.ended = True, False
        queued.waits += 1

    def settle(self, new: str, overlap: int) -> None:
        """Let leave what may, and say `new` in its place."""
        old = self.value
        changed = change(old, new)
        cut = len(old) if self.ended else max(len(old) - overlap, 0)
        self.shown_at, self.sure = self.base, self._upto(cut, changed)
        self.fresh = changed is not None and changed.end > self.sure  # that is said again when more has come
        applied = changed is not None and changed.end <= self.sure
        grown = changed.grows if changed and applied else 0
        self._leave(self.sure, new[: self.sure + grown], is_same=not applied)

    def _upto(self, cut: int, changed: Change | None) -> int:
        """Return how much can leave: up to an event's end, and no change in part."""
        ends = itertools.accumulate(len(piece.value) for piece in self.pieces)
        whole = [end for end in ends if end <= cut and not (changed and changed.start < end < changed.end)]
        if whole and whole[-1]:
            return whole[-1]
        return changed.end if changed and changed.start < cut else 0

    def _leave(self, upto: int, new: str, *, is_same: bool) -> None:
        """Free the pieces before `upto`, which say `new`. A piece that goes on after it waits with its rest."""
        self.base += upto
        while self.pieces and upto >= len(self.pieces[0].value):
            piece = self.pieces.pop(0)
            upto -= len(piece.value)
            if not is_same:
                piece.say(new)
                new = ""
            piece.queued.waits -= 1
        if upto and new:  # all of it was said by one event, which goes on: it says what is new, and waits
            self.base -= upto
            self.pieces[0].say(new + self.pieces[0].value[upto:])
        elif upto:
            self.pieces[0].say(self.pieces[0].value[upto:])
        self.size = sum(len(piece.value) for piece in self.pieces)


class Window:
    """Takes what the rules have left of a stream. What it shows is asked about; what it holds leaves on the answer."""

    def __init__(self, side: Side) -> None:
        self._size = side.window * TOKEN if side.stream is StreamMode.WINDOW else _AUDITED
        self._overlap = side.overlap * TOKEN
        self._framer = sse.Framer()
        self._trail = Trail()
        self._queue: list[_Queued] = []
        self._texts: dict[Path, _Followed] = {}
        self.ended = False

    def take(self, data: bytes, *, end: bool = False) -> Iterator[list[Text]]:
        """Take a piece of the stream and yield what must be judged: answer each with `settle` before the next."""
        for event in self._framer.feed(data):
            yield from self._event(event if isinstance(event, sse.Event) else sse.Event(event.raw, None))
        if not end:
            return
        if rest := self._framer.flush():
            yield from self._event(rest)
        yield from self._judged(self._texts)

    def settle(self, edits: Mapping[Path, Json]) -> bytes:
        """Return what leaves now that the judges have said what to change in what was shown last."""
        for number, queued in enumerate(self._queue):
            queued.change({path[2:]: text for path, text in edits.items() if path[:2] == (_WHOLE, number)})
        for key, text in self._texts.items():
            if text.fresh:
                text.settle(str(edits.get((HELD, *key), text.value)), self._overlap)
        return self.release()

    def located(self, findings: Iterable[Located]) -> Iterator[Located]:
        """Yield the findings of the last judgement where they stand in the stream; those that come again do not count."""
        for located in findings:
            path, found = located.path, located.finding
            text = self._texts.get(path[1:]) if path[:1] == (HELD,) else None
            if text is None:
                yield replace(located, path=path[2:] if path[:1] == (_WHOLE,) else path)
            elif self.ended or found.start < text.sure:
                base = text.base if self.ended else text.shown_at
                moved = replace(found, start=base + found.start, end=base + found.end)
                yield replace(located, finding=moved, path=path[1:])

    def release(self) -> bytes:
        """Return what nothing waits for."""
        for key in [key for key, text in self._texts.items() if text.ended and not text.fresh]:
            for piece in self._texts[key].pieces:
                piece.queued.waits -= 1
            self._texts[key].pieces.clear()
            self._texts[key].size = 0
        free = list(itertools.takewhile(lambda queued: not queued.waits, self._queue))
        del self._queue[: len(free)]
        return b"".join(map(self._leave, free))

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

    def _event(self, event: sse.Event) -> Iterator[list[Text]]:
        queued = _read(event)
        reading = queued.reading
        here = {text.key for text in reading.deltas}
        yield from self._judged(self._ended_by(reading, here) - here)
        self._queue.append(queued)
        for text in reading.deltas:
            self._texts.setdefault(text.key, _Followed()).add(queued, text)
        full = any(text.fresh and text.size >= self._size for text in self._texts.values())
        wholes = any(text.scannable for text in reading.wholes)
        ended = self._ended_by(reading, here)
        if full or wholes or ended:
            yield from self._judged(ended, wholes=wholes, all_=full)

    def _judged(
        self, ended: Iterable[Path], *, wholes: bool = False, all_: bool = False
    ) -> Iterator[list[Text]]:
        """Show what no judge has seen, if a text ends or there is another reason to."""
        for key in ended:
            self._texts[key].ended = True
            all_ = all_ or self._texts[key].fresh
        if all_ or wholes:
            yield self._shown()

    def _ended_by(self, reading: Reading, here: Collection[Path]) -> set[Path]:
        """Return the texts that end with an event, or before it, since another of the same speaker begins."""
        groups = {_speaker(key) for key in here}
        return {
            key
            for key, text in self._texts.items()
            if text.pieces
            and (
                any(key[: len(prefix)] == prefix for prefix in reading.closes)
                or (key not in here and _speaker(key) in groups)
            )
        }

    def _shown(self) -> list[Text]:
        texts = [
            replace(text.pieces[-1].text, path=(HELD, *key), value=text.value)
            for key, text in self._texts.items()
            if text.fresh
        ]
        for number, queued in enumerate(self._queue):
            if queued is self._queue[-1]:  # of earlier ones they have been judged
                wholes = (text for text in queued.reading.wholes if text.scannable)
                texts += [replace(text, path=(_WHOLE, number, *text.path)) for text in wholes]
        return texts


def _speaker(key: Path) -> Path:
    """Return what says one text after the other: a choice, or the only answer that there is."""
    return key[:2] if key[0] == "choices" else ()


def _read(event: sse.Event) -> _Queued:
    if event.data is None or event.data.strip() == DONE:
        return _Queued(event)
    try:
        document = decode(event.data)
        return _Queued(event, document, read(document))
    except Undecodable:  # the rules' filter has let it pass: its policy says so
        return _Queued(event)
