"""What one event of a streamed answer says: pieces of texts that go on, whole texts, and which texts end with it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from services.openai.texts import Json, Kind, Path, Text, walk

DONE = b"[DONE]"
"""The data of the last event of chat and completions."""


class Form(enum.StrEnum):
    """The shape of a stream's events."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    MESSAGES = "messages"
    RESPONSES = "responses"


@dataclass(frozen=True, slots=True)
class Reading:
    """The texts of one event."""

    form: Form | None
    """None for an event of no known shape: all its texts are whole."""
    deltas: tuple[Text, ...] = ()
    """Pieces of longer texts: equal `key` over the events of a stream means the same text."""
    wholes: tuple[Text, ...] = ()
    closes: tuple[Path, ...] = ()
    """Texts whose key begins with one of these end with this event; `()` ends all."""


def read(document: Json) -> Reading:
    """Return the texts of a decoded event."""
    if not isinstance(document, dict):
        return Reading(None, wholes=tuple(walk(document, "assistant")))
    shape = document.get("type")
    if isinstance(document.get("choices"), list):
        return _choices(document)
    if isinstance(shape, str) and shape in _MESSAGE_EVENTS:
        return _messages(document, shape)
    if isinstance(shape, str) and shape.startswith("response."):
        return _responses(document, shape)
    return Reading(None, wholes=tuple(walk(document, "assistant")))


_MESSAGE_EVENTS = frozenset({
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
    "message_stop", "ping",
})  # fmt: skip
_MESSAGE_PIECES = frozenset({"text", "thinking", "partial_json"})
_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


def _choices(document: dict[str, Json]) -> Reading:
    deltas, wholes, chat = [], [], False
    closes: list[Path] = []
    for text in walk(document, "assistant"):
        field = text.key[2] if len(text.key) > 2 and text.key[0] == "choices" else None  # noqa: PLR2004 - choices, index, field
        if field in {"delta", "text"} and text.scannable and _goes_on(text):
            deltas.append(text)
            closes += [(*text.key[:-1], "name")] if text.key[-1] == "arguments" else []
        else:
            wholes.append(text)
    choices = document["choices"]
    for position, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, dict):
            chat = chat or "delta" in choice
            if choice.get("finish_reason") is not None:
                closes.append(("choices", _int(choice.get("index"), position)))
    form = Form.CHAT if chat or document.get("object") != "text_completion" else Form.COMPLETIONS
    return Reading(form, tuple(deltas), tuple(wholes), tuple(closes))


def _goes_on(text: Text) -> bool:
    """Whether the text can go on in a later event: a function's name may, until its arguments begin; a key may not."""
    return text.kind is not Kind.NUMBER and (text.kind is not Kind.NAME or text.key[-2:] in _FUNCTION_NAMES)


_FUNCTION_NAMES = frozenset({("function", "name"), ("function_call", "name")})


def _messages(document: dict[str, Json], shape: str) -> Reading:
    index = _int(document.get("index"), 0)
    deltas, wholes = [], []
    for text in walk(document, "assistant"):
        if len(text.key) == 2 and text.key[1] in _MESSAGE_PIECES:  # noqa: PLR2004 - delta or content_block, field
            deltas.append(replace(text, key=("block", index, text.key[1])))
        else:
            wholes.append(text)
    closes: tuple[Path, ...] = ()
    if shape == "content_block_stop":
        closes = (("block", index),)
    elif shape in {"message_delta", "message_stop"}:
        closes = ((),)
    return Reading(Form.MESSAGES, tuple(deltas), tuple(wholes), closes)


def _responses(document: dict[str, Json], shape: str) -> Reading:
    base, _, ending = shape.rpartition(".")
    place = (base, _int(document.get("output_index"), 0), _int(document.get("content_index"), 0))
    kind = _RESPONSE_KINDS.get(base, Kind.CONTENT)
    deltas, wholes = [], []
    for text in walk(document, "assistant"):
        if ending == "delta" and text.path == ("delta",):
            deltas.append(Text(text.path, place, text.role, kind, text.value))
        else:
            wholes.append(text)
    closes: tuple[Path, ...] = (place,) if ending == "done" else ()
    return Reading(Form.RESPONSES, tuple(deltas), tuple(wholes), ((),) if shape in _RESPONSE_ENDS else closes)


_RESPONSE_KINDS = {
    "response.function_call_arguments": Kind.ARGUMENTS,
    "response.mcp_call_arguments": Kind.ARGUMENTS,
    "response.refusal": Kind.REFUSAL,
    "response.reasoning_text": Kind.REASONING,
    "response.reasoning_summary_text": Kind.REASONING,
}


def _int(value: Json, default: int) -> int:
    return value if isinstance(value, int) else default
