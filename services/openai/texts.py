"""Every text of a decoded request, answer or stream event, wherever the dialect hides it.

The walk goes through the whole document, not through a list of known places: a field that nobody has heard of is
yielded as `Kind.OTHER` rather than skipped. Tables say what the known fields mean; the role is the nearest object's
own `role`. Chat, completions, responses, messages and embeddings share one walk, because they share field names.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class KeyOf:
    """The last step of the path to an object's key, where the key itself is the text."""

    name: str


Step = str | int | KeyOf
Path = tuple[Step, ...]

MAX_DEPTH = 128  # tool schemas reach about 30; deeper nesting is an attack on parsers
MIN_NUMBER = (
    10**8
)  # an integer of nine digits can be a social security number; smaller ones are counts and ids


class Kind(enum.StrEnum):
    """What a text is to the model. A closed set."""

    CONTENT = "content"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    ARGUMENTS = "arguments"
    """What a tool is called with: JSON inside a string, or a JSON object."""
    RESULT = "result"
    NAME = "name"
    SCHEMA = "schema"
    LINK = "link"
    """An address of an image or file. The address is text; what is behind it is a `MEDIA` of its own."""
    NUMBER = "number"
    OTHER = "other"
    MEDIA = "media"
    TOKENS = "tokens"
    ENCODED = "encoded"
    LOGPROBS = "logprobs"
    """Repeats the answer token by token."""
    LABEL = "label"
    """A word of the protocol: exempt, and shown only to who counts everything."""


UNSCANNABLE = frozenset({Kind.MEDIA, Kind.TOKENS, Kind.ENCODED, Kind.LOGPROBS})
_NO_TEXT = UNSCANNABLE | {Kind.LABEL}


@dataclass(frozen=True, slots=True)
class Text:
    """One text and where it stands."""

    path: Path
    """Steps from the document's root: this very document's keys and positions."""
    key: Path
    """As `path`, but list items that carry their own `index` are named by it: the same over a stream's events."""
    role: str
    kind: Kind
    value: str
    """Empty where the text is no string."""
    size: int = 0
    """Of what is not scanned: bytes of its strings in UTF-8, or items of a list of token ids."""

    @property
    def scannable(self) -> bool:
        """Whether `value` holds what the model sees."""
        return self.kind not in _NO_TEXT


class Undecodable(ValueError):
    """The bytes are not the one JSON document that every reader would see."""


def decode(data: bytes) -> Json:
    """Decode JSON strictly: UTF-8 without a byte-order mark, no duplicate keys, no NaN, bounded depth.

    Duplicate keys are refused because a model server may take the other one.
    """
    try:
        return cast("Json", _DECODER.decode(data.decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise Undecodable(str(error) or type(error).__name__) from error


def walk(document: Json, role: str = "", *, labels: bool = False) -> list[Text]:
    """Return every text of `document` in its order, unscannable ones included. `role` holds where none is given.

    With `labels` every string is there, exempt ones too: each non-empty string value is one of the texts, or lies
    within one that is not scanned.
    """
    walker = _Walker(labels=labels)
    walker.visit(document, _At((), (), role, Kind.CONTENT))
    return walker.texts


@dataclass(frozen=True, slots=True)
class _At:
    path: Path
    key: Path
    role: str
    kind: Kind

    def down(self, step: Step, name: Step, kind: Kind) -> _At:
        return _At((*self.path, step), (*self.key, name), self.role, kind)


class _Walker:
    def __init__(self, *, labels: bool) -> None:
        self.texts: list[Text] = []
        self._labels = labels

    def visit(self, value: Json, at: _At) -> None:
        if isinstance(value, str):
            self._string(value, at)
        elif isinstance(value, dict):
            self._object(value, at)
        elif isinstance(value, list):
            self._list(value, at)
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= MIN_NUMBER:
            self.texts.append(Text(at.path, at.key, at.role, Kind.NUMBER, str(value)))

    def _string(self, value: str, at: _At) -> None:
        if at.kind is Kind.LINK and not value.startswith("data:"):
            self.texts.append(Text(at.path, at.key, at.role, Kind.LINK, value))
            self._opaque(Kind.MEDIA, 0, at)
        elif at.kind is Kind.TOKENS and value:  # ids are numbers: this is a text in their place
            self.texts.append(Text(at.path, at.key, at.role, Kind.OTHER, value))
        elif at.kind is Kind.LINK or at.kind in UNSCANNABLE:
            self._opaque(Kind.MEDIA if at.kind is Kind.LINK else at.kind, weight(value), at)
        elif value:
            self.texts.append(Text(at.path, at.key, at.role, at.kind, value))

    def _object(self, value: dict[str, Json], at: _At) -> None:
        if len(at.path) > MAX_DEPTH:
            raise Undecodable("nested too deeply")
        own = value.get("role")
        kind = at.kind
        if isinstance(own, str):
            at = _At(at.path, at.key, own, kind)
        named = value.get("type")
        shape = named if isinstance(named, str) else ""
        for name, item in value.items():
            echoed = (
                name == "instructions" and value.get("object") == "response"
            )  # the request's own, sent back
            if echoed or (name in LABELS and kind not in _FREE and _is_label(name, item)):
                self._label(item, at.down(name, name, kind))
                continue
            if name not in _KNOWN and kind is not Kind.LOGPROBS:
                self._key(name, at)
            if name in OPAQUE and item and kind not in _FREE and isinstance(item, dict | list | str):
                self._opaque(OPAQUE[name], weight(item), at.down(name, name, kind))
            else:
                self.visit(item, at.down(name, name, _kind(name, kind, shape, at.role)))

    def _list(self, value: list[Json], at: _At) -> None:
        if len(at.path) > MAX_DEPTH:
            raise Undecodable("nested too deeply")
        first = value[0] if value else None
        if isinstance(first, float) and set(map(type, value)) == {float}:  # an embedding: no text
            return
        if (
            isinstance(first, int)
            and at.kind in _TOKEN_PLACES
            and all(isinstance(item, int) for item in value)
        ):
            self._opaque(Kind.TOKENS, len(value), at)
            return
        for position, item in enumerate(value):
            index = item.get("index", position) if isinstance(item, dict) else position
            self.visit(item, at.down(position, index if isinstance(index, int) else position, at.kind))

    def _key(self, name: str, at: _At) -> None:
        step = KeyOf(name)
        self.texts.append(Text((*at.path, step), (*at.key, step), at.role, Kind.NAME, name))

    def _label(self, item: Json, at: _At) -> None:
        if self._labels and isinstance(item, str) and item:
            self._opaque(Kind.LABEL, weight(item), at)

    def _opaque(self, kind: Kind, size: int, at: _At) -> None:
        self.texts.append(Text(at.path, at.key, at.role, kind, "", size))


def weight(value: Json) -> int:
    """Return the bytes in UTF-8 of all strings in `value`."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return sum(map(weight, value.values()))
    return sum(map(weight, value)) if isinstance(value, list) else 0


LABELS = frozenset({
    "role", "type", "id", "object", "finish_reason", "stop_reason", "system_fingerprint", "item_id", "status",
    "service_tier", "created", "created_at", "completed_at", "detail", "encoding_format", "media_type", "signature",
    "index", "seed", "embedding", "model", "usage", "truncation", "obfuscation", "sequence_number",
})  # fmt: skip
"""Fields whose values are words of the protocol or numbers that no prompt template shows to a model: exempt.

Inside arguments, schemas and unknown fields these names are ordinary text, and an object or list in such a field is walked.
"""

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function", "critic", "discriminator"})
"""A chat template prints the role: any other word is a text."""

_LONGEST_LABEL = 64  # characters; ids have 40 at most, and what is longer is somebody's text
_LONG_LABELS = frozenset({"signature", "embedding", "obfuscation"})


def _is_label(name: str, value: Json) -> bool:
    """Whether the value of a field of `LABELS` is what it should be, and not a text that hides there."""
    if isinstance(value, dict | list):
        return False
    if name == "role":
        return value in ROLES
    return not isinstance(value, str) or len(value) <= _LONGEST_LABEL or name in _LONG_LABELS


KINDS: dict[str, Kind] = {
    "content": Kind.CONTENT, "prompt": Kind.CONTENT, "input": Kind.CONTENT, "system": Kind.CONTENT,
    "instructions": Kind.CONTENT, "suffix": Kind.CONTENT, "prediction": Kind.CONTENT, "query": Kind.CONTENT,
    "documents": Kind.CONTENT, "messages": Kind.CONTENT, "output": Kind.CONTENT, "delta": Kind.CONTENT,
    "message": Kind.CONTENT, "choices": Kind.CONTENT, "output_text": Kind.CONTENT, "transcript": Kind.CONTENT,
    "reasoning_content": Kind.REASONING, "reasoning": Kind.REASONING, "thinking": Kind.REASONING,
    "summary": Kind.REASONING, "refusal": Kind.REFUSAL, "arguments": Kind.ARGUMENTS, "partial_json": Kind.ARGUMENTS,
    "name": Kind.NAME, "tools": Kind.SCHEMA, "functions": Kind.SCHEMA, "parameters": Kind.SCHEMA,
    "response_format": Kind.SCHEMA, "input_schema": Kind.SCHEMA, "json_schema": Kind.SCHEMA,
    "file": Kind.CONTENT, "image_url": Kind.LINK, "file_url": Kind.LINK, "video_url": Kind.LINK, "audio_url": Kind.LINK,
    "prompt_token_ids": Kind.TOKENS, "token_ids": Kind.TOKENS, "tokens": Kind.TOKENS,
    "encrypted_content": Kind.ENCODED, "redacted_thinking": Kind.ENCODED, "file_data": Kind.MEDIA,
    "b64_json": Kind.MEDIA, "prompt_embeds": Kind.ENCODED,
}  # fmt: skip
"""What the strings in a field are, wherever it stands."""

OPAQUE: dict[str, Kind] = {
    "logprobs": Kind.LOGPROBS, "top_logprobs": Kind.LOGPROBS, "prompt_logprobs": Kind.LOGPROBS,
    "input_audio": Kind.MEDIA, "file_id": Kind.MEDIA,
}  # fmt: skip
"""Fields that are not looked into."""

NEUTRAL = frozenset({
    "text", "url", "parts", "tool_calls", "function", "function_call", "data", "value", "source", "response", "item",
    "part", "content_block", "annotations",
})  # fmt: skip
"""Fields that mean what the object around them means."""

_KNOWN = LABELS | KINDS.keys() | OPAQUE.keys() | NEUTRAL | {
    "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stop", "user",
    "metadata", "tool_call_id", "call_id", "output_index", "content_index", "error", "tool_choice", "include_usage", "stop_sequence", "tool_use_id", "description",
}  # fmt: skip

_FREE = frozenset({Kind.ARGUMENTS, Kind.SCHEMA, Kind.OTHER})
"""Inside these the field names are the author's own and mean nothing to us."""

_TOKEN_PLACES = frozenset({Kind.CONTENT, Kind.TOKENS})


def _kind(name: str, outer: Kind, shape: str, role: str) -> Kind:
    """Return what the field `name` holds, in an object of type `shape` that itself stands in an `outer`."""
    if outer in _FREE or outer in UNSCANNABLE:
        return outer
    if shape == "tool_use" and name == "input":
        return Kind.ARGUMENTS
    if shape == "base64" and name == "data":
        return Kind.MEDIA
    if shape in {"redacted_thinking", "encrypted"} and name == "data":
        return Kind.ENCODED
    if shape == "url" and name == "url":
        return Kind.LINK
    if name == "content" and (role in {"tool", "function"} or shape == "tool_result" or outer is Kind.RESULT):
        return Kind.RESULT
    if name == "output" and shape == "function_call_output":
        return Kind.RESULT
    if name in NEUTRAL:
        return outer
    return KINDS.get(name, Kind.OTHER)


def _unique(pairs: Iterable[tuple[str, Json]]) -> dict[str, Json]:
    items = list(pairs)
    found = dict(items)
    if len(found) != len(items):
        raise ValueError("an object has a key twice")
    return found


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
