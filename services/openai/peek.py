"""Read what routing needs of a request body, and leave the rest unbuilt."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import msgspec

from services.openai.dialects import SHAPES, Dialect
from services.openai.errors import PeekError, Reason
from services.openai.multipart import boundary_of, decoded, form_fields
from services.openai.spans import Fields, Span, splice, top_level

LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""The names of the answer's limit, newest first: the first one given counts."""

SEPARATOR = b"\0"
"""Between two parts of a prompt. No JSON text holds this byte, so two prompts never meet by sliding."""

_TRUE = frozenset({b"true", b"1", b"yes", b"on"})  # what a lenient server reads as true
_COUNT = re.compile(rb'"?(\d{1,9})"?')  # nine digits are past every context length and cheap to read
_SPACE = re.compile(rb"[ \t\r\n]*+")
_WHITESPACE = b" \t\r\n"
_SHORT = 16  # bytes; longer than every number and flag that is read


@dataclass(frozen=True, slots=True)
class Peek:
    """The facts of one request. The views point into its body."""

    dialect: Dialect
    model: str
    span: Span
    """Where the model stands in the body: with its quotes in JSON, the bare value in a form."""
    form: bool = False
    """The body is multipart/form-data."""
    stream: bool = False
    max_tokens: int = 0
    """The answer's limit; 0 when the client set none."""
    cache_salt: str = ""
    """vLLM's: requests share cached prefixes only under the same salt."""
    user: str = ""
    """The end user's id as the client names it: `safety_identifier`, else `user`."""
    prompt: tuple[bytes | memoryview, ...] = ()
    """The prompt's fields as written, in template order, outer brackets or quotes and the space inside them left
    out: the bytes of a growing conversation are a prefix of its next turn's."""

    @property
    def prompt_bytes(self) -> int:
        """The prompt's length as written, separators included."""
        return sum(map(len, self.prompt))


def peek(body: bytes, dialect: Dialect, content_type: str = "") -> Peek:
    """Read a request of `dialect`. Raises `PeekError` with a message for the client when it is not one."""
    if SHAPES[dialect].form and (boundary := boundary_of(content_type)) is not None:
        return _read(body, dialect, Fields(form_fields(body, boundary)), form=True)
    return _read(body, dialect, Fields(top_level(body)), form=False)


def rewrite(body: bytes, seen: Peek, model: str) -> bytes:
    """Return `body` with `model` in place of the one that was `seen`, and every other byte as it was."""
    return splice(body, seen.span, model.encode() if seen.form else msgspec.json.encode(model))


def _read(body: bytes, dialect: Dialect, fields: Fields, *, form: bool) -> Peek:
    shape = SHAPES[dialect]
    values = _Values(body, fields, form=form)
    model = values.model()
    values.require(shape.content)
    return Peek(
        dialect=dialect,
        model=model,
        span=fields.get("model"),
        form=form,
        stream=values.flag("stream"),
        max_tokens=values.count(LIMITS),
        cache_salt=values.text("cache_salt"),
        user=values.text("safety_identifier") or values.text("user"),
        prompt=values.prompt(shape.prompt),
    )


class _Values:
    """The fields of one body, read by name.

    Only the model is judged. A `stream` or a limit of a strange type is the model server's to refuse, in its words.
    """

    __slots__ = ("_body", "_fields", "_form")

    def __init__(self, body: bytes, fields: Fields, *, form: bool) -> None:
        self._body, self._fields, self._form = body, fields, form

    def model(self) -> str:
        start, _ = self._fields.get("model")
        if not self._form and self._body[start : start + 1] != b'"':
            raise PeekError(Reason.WRONG_TYPE, "field 'model' must be a string", param="model")
        model = self.text("model")
        if not model.strip():
            raise PeekError(Reason.FIELD_EMPTY, "field 'model' is empty", param="model")
        return model

    def require(self, names: tuple[str, ...]) -> None:
        """Refuse a body that gives none of `names`, or gives them as null."""
        if names and all(self._short(name) in {None, b"null"} for name in names):
            raise PeekError(Reason.FIELD_MISSING, f"field {names[0]!r} is missing", param=names[0])

    def text(self, name: str) -> str:
        """Return a string's text; empty for anything else."""
        start, end = self._fields.find(name) or (0, 0)
        raw = self._body[start:end]
        if self._form:
            return decoded(raw, name)
        return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else ""

    def flag(self, name: str) -> bool:
        return (self._short(name) or b"").strip(b'"').lower() in _TRUE

    def count(self, names: Iterable[str]) -> int:
        for name in names:
            if found := _COUNT.fullmatch(self._short(name) or b""):
                return int(found[1])
        return 0

    def prompt(self, names: Iterable[str]) -> tuple[bytes | memoryview, ...]:
        parts: list[bytes | memoryview] = []
        for name in names:
            start, end = self._inside(*(self._fields.find(name) or (0, 0)))
            if start < end:
                parts += [SEPARATOR] if parts else []
                parts.append(memoryview(self._body)[start:end])
        return tuple(parts)

    def _short(self, name: str) -> bytes | None:
        """Return the first bytes of a value, enough for a number or a flag; None without it."""
        span = self._fields.find(name)
        return None if span is None else self._body[span[0] : min(span[1], span[0] + _SHORT)]

    def _inside(self, start: int, end: int) -> Span:
        """Return the span without the quotes around it, or without the brackets and the space next to them."""
        first = b"" if self._form else self._body[start : start + 1]
        if first == b'"':
            return start + 1, end - 1
        if first != b"[":
            return start, end
        start, end = cast("re.Match[bytes]", _SPACE.match(self._body, start + 1)).end(), end - 1
        if self._body[end - 1] in _WHITESPACE:
            end = start + len(self._body[start:end].rstrip(_WHITESPACE))
        return start, end
