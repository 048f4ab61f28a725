"""What is refused, and the body of a refusal in the words of the client's API."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from services.openai.dialects import Dialect, ErrorForm, error_form


class Reason(enum.StrEnum):
    """Why a body cannot be read. A closed set, fit for a metric label."""

    EMPTY_BODY = "empty_body"
    NOT_UTF8 = "not_utf8"
    INVALID_JSON = "invalid_json"
    NOT_AN_OBJECT = "not_an_object"
    TOO_DEEP = "too_deep"
    TOO_MANY_FIELDS = "too_many_fields"
    INVALID_FORM = "invalid_form"
    DUPLICATE_FIELD = "duplicate_field"
    FIELD_MISSING = "field_missing"
    FIELD_EMPTY = "field_empty"
    WRONG_TYPE = "wrong_type"


class PeekError(Exception):
    """The body is not a request of its dialect: the client's mistake, status 400."""

    def __init__(self, reason: Reason, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.param = param
        """The field at fault."""


_OPENAI: Mapping[int, tuple[str, str | None]] = MappingProxyType(
    {
        400: ("invalid_request_error", None),
        401: ("authentication_error", "invalid_api_key"),
        403: ("invalid_request_error", "content_policy_violation"),
        404: ("invalid_request_error", "model_not_found"),
        408: ("timeout_error", "request_timeout"),
        413: ("invalid_request_error", "request_too_large"),
        429: ("rate_limit_error", "rate_limit_exceeded"),
        500: ("server_error", "internal_error"),
        502: ("server_error", "bad_gateway"),
        503: ("server_error", "service_unavailable"),
        504: ("server_error", "gateway_timeout"),
    }
)
"""Status → (type, code)."""

_ANTHROPIC: Mapping[int, str] = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        408: "timeout_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)
"""Status → type, as in Anthropic's published list; 503 is what a gateway says where Anthropic says 529."""

_FIRST_SERVER_ERROR = 500


def error_body(
    dialect: Dialect,
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    kind: str | None = None,
    request_id: str = "",
) -> bytes:
    """Return the JSON body of an error with HTTP `status`, in the form of `dialect`.

    `param`, `code` and `kind` exist in OpenAI's form only; `code` and `kind`, the error's type, default to the usual
    ones of the status. `request_id` exists in Anthropic's only, whose types are a closed list.
    """
    message = _encodable(message)
    if error_form(dialect) is ErrorForm.ANTHROPIC:
        return _anthropic(status, message, request_id)
    usual_kind, usual = _OPENAI.get(status, (_other(status, "server_error"), None))
    error = {"message": message, "type": kind or usual_kind, "param": param, "code": code or usual}
    return msgspec.json.encode({"error": error})


def _anthropic(status: int, message: str, request_id: str) -> bytes:
    kind = _ANTHROPIC.get(status, _other(status, "api_error"))
    body: dict[str, object] = {"type": "error", "error": {"type": kind, "message": message}}
    if request_id:
        body["request_id"] = _encodable(request_id)
    return msgspec.json.encode(body)


def _other(status: int, server: str) -> str:
    return "invalid_request_error" if status < _FIRST_SERVER_ERROR else server


def _encodable(text: str) -> str:
    """Replace what UTF-8 cannot say: headers and paths can carry any byte into a message."""
    return text.encode(errors="replace").decode()
