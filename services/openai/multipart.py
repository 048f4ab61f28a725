"""Find the fields of a multipart/form-data body (RFC 7578 over RFC 2046) without copying its parts.

Where readers of forms are known to differ, the body is refused: the gateway and the model server must not read
different models out of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.openai.errors import PeekError, Reason
from services.openai.spans import Field, Span

MAX_PARTS = 1000
"""As many as Starlette's form parser takes, which model servers use."""

MAX_PART_HEADERS = 8192
"""Bytes of one part's headers. A disposition with a long file name needs a few hundred."""

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - RFC 9110's name for it
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*+)"|({_TOKEN}))')
_TYPE = re.compile(r"[ \t]*multipart/form-data", re.IGNORECASE)
_DISPOSITION = re.compile(r"[ \t]*form-data", re.IGNORECASE)
_HEADER = re.compile(rf"({_TOKEN}):(.*)")
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
"""RFC 2046 §5.1.1: 1 to 70 characters, the last one no space."""

_PADDING = re.compile(rb"[ \t]*+\r\n")
_BREAK = b"\r\n"


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary that a Content-Type declares, or None when it is not multipart/form-data."""
    kind = _TYPE.match(content_type)
    if kind is None:
        return None
    boundary = _parameters(content_type[kind.end() :], "content-type").get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise _malformed("content-type has no valid boundary")
    return boundary.encode()


def form_fields(body: bytes, boundary: bytes) -> list[Field]:
    """Return the parts of a form in order: name, and span of the content. A file keeps the name of its field."""
    fields: list[Field] = []
    for start, end in _parts(body, boundary):
        if len(fields) == MAX_PARTS:
            raise PeekError(Reason.TOO_MANY_FIELDS, f"form has more than {MAX_PARTS} parts")
        name, content = _head(body, start, end)
        fields.append(Field(name, content, end))
    return fields


def field_before(body: bytes, at: int, name: str, value: bytes) -> bytes:
    """Return the bytes of one more field, to stand before the delimiter line at `body[at]`."""
    dash = body[at : body.index(_BREAK, at)].rstrip(b" \t")
    head = f'Content-Disposition: form-data; name="{name}"'.encode()
    return _BREAK.join((dash, head, b"", value, b""))


def first_delimiter(body: bytes, boundary: bytes) -> int:
    """Return where the first delimiter line of a form begins."""
    dash = b"--" + boundary
    # Every delimiter but one at the very start has its line break before it, so text before it is skipped.
    return 0 if body.startswith(dash) else _find(body, _BREAK + dash, 0) + len(_BREAK)


def decoded(value: bytes, name: str) -> str:
    """Return a form field's text."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise PeekError(Reason.NOT_UTF8, f"field {name!r} is not UTF-8", param=name) from None


def _parts(body: bytes, boundary: bytes) -> Iterator[Span]:
    """Yield the span between two delimiter lines, headers included, the line break before the second left out."""
    if not body:
        raise PeekError(Reason.EMPTY_BODY, "body is empty, expected a form")
    dash = b"--" + boundary
    at = first_delimiter(body, boundary) + len(dash)
    while not body.startswith(b"--", at):
        line_end = _PADDING.match(body, at)
        if line_end is None:
            raise _malformed(f"the boundary line before byte {at} does not end there")
        end = _find(body, _BREAK + dash, line_end.end() - len(_BREAK))
        yield line_end.end(), max(end, line_end.end())
        at = end + len(_BREAK) + len(dash)


def _find(body: bytes, delimiter: bytes, start: int) -> int:
    at = body.find(delimiter, start)
    if at < 0:
        raise _malformed("it ends without its closing boundary")
    return at


def _head(body: bytes, start: int, end: int) -> tuple[str, int]:
    """Read a part's headers: return the field's name and where its content starts."""
    blank = body.find(_BREAK * 2, start, min(end, start + MAX_PART_HEADERS))
    if blank < 0:
        raise _malformed(f"the part at byte {start} has no end of its headers")
    headers = _headers(body[start:blank], start)
    disposition = headers.get("content-disposition", "")
    kind = _DISPOSITION.match(disposition)
    if kind is None:
        raise _malformed(f"the part at byte {start} has no form-data disposition")
    parameters = _parameters(disposition[kind.end() :], f"the part at byte {start}")
    if "name" not in parameters or "name*" in parameters:
        raise _malformed(f"the part at byte {start} has no plain name")
    name = parameters["name"]
    if name == "model":
        _refuse_disguise(headers, parameters)
    return name, blank + 2 * len(_BREAK)


def _headers(block: bytes, start: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in decoded(block, "headers").split("\r\n"):
        found = _HEADER.fullmatch(line)
        if found is None or found[1].lower() in headers:
            raise _malformed(f"the part at byte {start} has a broken or repeated header")
        headers[found[1].lower()] = found[2]
    return headers


def _refuse_disguise(headers: dict[str, str], parameters: dict[str, str]) -> None:
    """Refuse a model that one reader takes as text and another as a file or as encoded bytes."""
    encoding = headers.get("content-transfer-encoding", "binary").strip().lower()
    if "filename" in parameters or "filename*" in parameters or encoding not in {"7bit", "8bit", "binary"}:
        raise PeekError(Reason.WRONG_TYPE, "field 'model' must be a plain form field", param="model")


def _parameters(text: str, where: str) -> dict[str, str]:
    """Read `; key=value` pairs; keys in lower case, a quoted value without its quotes."""
    parameters: dict[str, str] = {}
    at = 0
    while found := _PARAMETER.match(text, at):
        key = found[1].lower()
        if key in parameters:
            raise _malformed(f"{where} gives the parameter {key!r} twice")
        parameters[key] = re.sub(r"\\(.)", r"\1", found[2]) if found[2] is not None else found[3]
        at = found.end()
    if text[at:].strip(" \t;"):
        raise _malformed(f"{where} has a broken parameter")
    return parameters


def _malformed(why: str) -> PeekError:
    return PeekError(Reason.INVALID_FORM, f"body is not a valid form: {why}")
