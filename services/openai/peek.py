"""Read what routing needs of a request body, and leave the rest unbuilt."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import msgspec

from services.openai.dialects import SHAPES, Dialect
from services.openai.errors import PeekError, Reason
from services.openai.multipart import boundary_of, decoded, field_before, first_delimiter, form_fields
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
    """Empty where the body names none, if that was allowed."""
    span: Span
    """Where the model stands in the body: with its quotes in JSON, the bare value in a form. Empty where it would."""
    model_field: bool = True
    """The body has the field, be it empty."""
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


def peek(body: bytes, dialect: Dialect, content_type: str = "", *, model_optional: bool = False) -> Peek:
    """Read a request of `dialect`. Raises `PeekError` with a message for the client when it is not one.

    `model_optional` lets a body pass that has no model, an empty one or null: something else names it.
    """
    if SHAPES[dialect].form and (boundary := boundary_of(content_type)) is not None:
        fields, first = form_fields(body, boundary), first_delimiter(body, boundary)
        return _read(body, dialect, Fields(fields), first if model_optional else None, form=True)
    fields = top_level(body)
    return _read(body, dialect, Fields(fields), body.index(b"{") + 1 if model_optional else None, form=False)


def peek_unknown(body: bytes) -> Peek:
    """Read a body of no known dialect: its model, if it is a JSON object that has one. Nothing is demanded.

    Raises `PeekError` only for a model that is given twice.
    """
    prompt = (body,) if body else ()
    try:
        fields = Fields(top_level(body))
    except PeekError:
        return Peek(Dialect.OTHER, "", (0, 0), model_field=False, prompt=prompt)
    values, span = _Values(body, fields, form=False), fields.find("model")
    model = values.text("model") if span else ""
    return Peek(
        Dialect.OTHER, model, span or (0, 0), model_field=bool(model), user=values.text("user"), prompt=prompt
    )


def rewrite(body: bytes, seen: Peek, model: str) -> bytes:
    """Return `body` with `model` in place of the one that was `seen`, and every other byte as it was."""
    value = model.encode() if seen.form else msgspec.json.encode(model)
    if not seen.model_field:
        at = seen.span[0]
        value = field_before(body, at, "model", value) if seen.form else _member(body, at, value)
    return splice(body, seen.span, value)


def field_text(body: bytes, name: str, content_type: str = "") -> str | None:
    """Return a top-level field: a string's text, anything else as its JSON; None when the body lacks it."""
    boundary = boundary_of(content_type)
    fields = top_level(body) if boundary is None else form_fields(body, boundary)
    span = Fields(fields).find(name)
    if span is None:
        return None
    raw = body[span[0] : span[1]]
    if boundary is not None:
        return decoded(raw, name)
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()


def _member(body: bytes, at: int, value: bytes) -> bytes:
    """Return `value` as the first member of the object that opens before `at`."""
    lone = body[cast("re.Match[bytes]", _SPACE.match(body, at)).end()] == ord("}")
    return b'"model":' + value + (b"" if lone else b",")


def _read(body: bytes, dialect: Dialect, fields: Fields, first: int | None, *, form: bool) -> Peek:
    """Read the facts; `first` is where a missing model would stand, None where it may not be missing."""
    shape = SHAPES[dialect]
    values = _Values(body, fields, form=form)
    given = fields.find("model")
    model = values.model(optional=first is not None)
    values.require(shape.content)
    return Peek(
        dialect=dialect,
        model=model,
        span=given or (first or 0, first or 0),
        model_field=given is not None,
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

    def model(self, *, optional: bool) -> str:
        absent = {None} if self._form else {None, b"null"}
        if optional and self._short("model") in absent:
            return ""
        start, _ = self._fields.get("model")
        if not self._form and self._body[start : start + 1] != b'"':
            raise PeekError(Reason.WRONG_TYPE, "field 'model' must be a string", param="model")
        model = self.text("model")
        if model.strip():
            return model
        if optional:
            return ""
        raise PeekError(Reason.FIELD_EMPTY, "field 'model' is empty", param="model")

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
