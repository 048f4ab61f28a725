"""Events that a filter adds to a streamed answer: a delta of its own, and the end of an answer cut short."""

from __future__ import annotations

from services.openai import sse
from services.openai.deltas import DONE, Form
from services.openai.edits import encode_json
from services.openai.texts import Json, KeyOf, Path

_ENVELOPE = ("id", "object", "created", "model", "system_fingerprint")
_BLOCK_DELTAS = {"text": "text_delta", "thinking": "thinking_delta", "partial_json": "input_json_delta"}


class Trail:
    """What a stream has said about itself so far: enough to add events that fit in."""

    def __init__(self) -> None:
        self.form: Form | None = None
        self._envelope: dict[str, Json] = {}
        self._open: dict[int, None] = {}  # choices or blocks that have begun and not ended, in order
        self._response: dict[str, Json] = {}
        self._items: dict[Json, Json] = {}  # output index → item id
        self._sequence = -1
        self.added = 0
        """By how much the sequence numbers of what follows must grow: events of ours have taken some."""

    def note(self, form: Form | None, document: Json, *, ends: bool = True) -> None:
        """Remember an event that is about to leave; `ends` false: without its `finish_reason`."""
        if form is None or not isinstance(document, dict):
            return
        self.form = form
        if form is Form.MESSAGES:
            self._note_block(document)
        elif form is Form.RESPONSES:
            self._note_response(document)
        else:
            self._note_choices(document, ends=ends)

    def count(self, number: int) -> None:
        """Remember the sequence number of an event that is otherwise like the one noted last."""
        self._sequence = number + self.added

    def delta(self, key: Path, text: str) -> bytes:
        """Return an event that says `text` as the next piece of the text `key`."""
        if self.form is Form.MESSAGES:
            field = str(key[-1])
            delta: Json = {"type": _BLOCK_DELTAS.get(field, "text_delta"), field: text}
            return _named({"type": "content_block_delta", "index": _index(key[1]), "delta": delta})
        if self.form is Form.RESPONSES:
            kind = f"{key[0]}.delta"
            output = _index(key[1])
            place: dict[str, Json] = {"output_index": output, "content_index": _index(key[2])}
            item: dict[str, Json] = {"item_id": self._items[output]} if output in self._items else {}
            self.added += 1
            return _named({"type": kind, **item, **place, "delta": text, "sequence_number": self._next()})
        choice: dict[str, Json] = {"index": _index(key[1]), "finish_reason": None}
        inner = _nest(key[2:], text)
        return self._chunk([choice | inner if isinstance(inner, dict) else choice])

    def ending(self) -> bytes:
        """Return the events that end the answer here because its content is forbidden."""
        if self.form is Form.MESSAGES:
            return self._end_message()
        if self.form is Form.RESPONSES:
            details: Json = {"reason": "content_filter"}
            response = {**self._response, "status": "incomplete", "incomplete_details": details, "output": []}
            return _named({
                "type": "response.incomplete", "response": dict(response), "sequence_number": self._next(),
            })  # fmt: skip
        empty: dict[str, Json] = {"text": ""} if self.form is Form.COMPLETIONS else {"delta": {}}
        ends: list[Json] = [
            {"index": index, **empty, "finish_reason": "content_filter"} for index in self._open or {0: None}
        ]
        return self._chunk(ends) + sse.event(DONE)

    def _note_choices(self, document: dict[str, Json], *, ends: bool) -> None:
        self._envelope = {name: document[name] for name in _ENVELOPE if name in document}
        choices = document.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                index = choice.get("index")
                place = index if isinstance(index, int) else position
                self._open[place] = None
                if ends and choice.get("finish_reason") is not None:
                    del self._open[place]

    def _note_block(self, document: dict[str, Json]) -> None:
        index = document.get("index")
        if not isinstance(index, int):
            return
        if document.get("type") == "content_block_stop":
            self._open.pop(index, None)
        else:
            self._open[index] = None

    def _note_response(self, document: dict[str, Json]) -> None:
        number, response = document.get("sequence_number"), document.get("response")
        if isinstance(number, int):
            self.count(number)
        if isinstance(response, dict):
            self._response = response
        if "item_id" in document:
            self._items[_index(document.get("output_index"))] = document["item_id"]

    def _chunk(self, choices: list[Json]) -> bytes:
        return sse.event(encode_json({**self._envelope, "choices": choices}))

    def _end_message(self) -> bytes:
        stops = b"".join(_named({"type": "content_block_stop", "index": index}) for index in self._open)
        delta: Json = {"stop_reason": "refusal", "stop_sequence": None}
        end = _named({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 0}})
        return stops + end + _named({"type": "message_stop"})

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence


def _nest(steps: Path, text: str) -> Json:
    """Build the value that holds `text` at `steps`; a list item is the one that names its own index."""
    if not steps:
        return text
    step, inner = steps[0], _nest(steps[1:], text)
    if isinstance(step, int):
        return [{"index": step, **inner}] if isinstance(inner, dict) else [inner]
    return {step.name if isinstance(step, KeyOf) else step: inner}


def _index(step: object) -> int:
    return step if isinstance(step, int) else 0


def _named(document: dict[str, Json]) -> bytes:
    return sse.event(encode_json(document), str(document["type"]))
