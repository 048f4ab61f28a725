"""Events of one text that wait together for the next one. They leave as they came, or as one that says what may leave."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.openai.sse import Event
from services.openai.template import Filled
from services.openai.texts import Path

_MOST = 64  # events: a long match would else keep as many raw events as it has tokens


@dataclass(slots=True)
class Waiting:
    """What waits of the text `key`."""

    key: Path
    keep: bool
    """Whether every event must leave, though empty: they are numbered."""
    _events: list[tuple[Event, bytes, Filled, bool]] = field(default_factory=list)
    _said: list[str] = field(default_factory=list)
    _free: list[str] = field(default_factory=list)

    def add(self, event: Event, data: bytes, filled: Filled, released: str, *, new: bool) -> None:
        """Take an event; `released` is what may leave now of all that was said. A `new` shape says what only it does."""
        self._events.append((event, data, filled, new))
        self._said.append(filled.text)
        self._free.append(released)

    @property
    def is_patient(self) -> bool:
        """Whether nothing but spaces is kept from the client without need."""
        return len(self._events) < _MOST and not any(text and not text.isspace() for text in self._free)

    def release(self, more: str = "") -> bytes:
        """Return what leaves: `more` and what was released before."""
        text = "".join(self._free) + more
        if text == "".join(self._said):
            return b"".join(event.raw for event, *_ in self._events)
        texts = [text] + [""] * (len(self._events) - 1)
        return b"".join(
            _saying(event, data, filled, text)
            for (event, data, filled, new), text in zip(self._events, texts, strict=True)
            if text or new or self.keep
        )


def _saying(event: Event, data: bytes, filled: Filled, text: str) -> bytes:
    return event.with_data(filled.with_text(data, text))
