from __future__ import annotations

import json

import pytest

from services.openai.dialects import Dialect
from services.openai.errors import error_body


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", None),
        (401, "authentication_error", "invalid_api_key"),
        (403, "invalid_request_error", "content_policy_violation"),
        (404, "invalid_request_error", "model_not_found"),
        (413, "invalid_request_error", "request_too_large"),
        (422, "invalid_request_error", None),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (500, "server_error", "internal_error"),
        (503, "server_error", "service_unavailable"),
        (599, "server_error", None),
    ],
)
def test_openai_clients_get_openai_errors(status, kind, code):
    """The four members are always there, as the SDK expects; the status decides type and code."""
    body = json.loads(error_body(Dialect.CHAT, status, "so it is"))
    assert body == {"error": {"message": "so it is", "type": kind, "param": None, "code": code}}


def test_the_caller_can_name_field_and_code():
    """A 404 need not be about a model."""
    error = json.loads(error_body(Dialect.OTHER, 404, "m", param="model", code="unknown_url"))["error"]
    assert (error["param"], error["code"]) == ("model", "unknown_url")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
@pytest.mark.parametrize("dialect", [Dialect.MESSAGES, Dialect.COUNT_TOKENS])
def test_anthropic_clients_get_anthropic_errors(dialect, status, kind):
    """With the type of the status, and the request's id when it is known."""
    error = {"type": kind, "message": "so it is"}
    assert json.loads(error_body(dialect, status, "so it is", param="p", code="c")) == {
        "type": "error",
        "error": error,
    }
    with_id = json.loads(error_body(dialect, status, "so it is", request_id="r1"))
    assert with_id == {"type": "error", "error": error, "request_id": "r1"}


@pytest.mark.parametrize("dialect", [Dialect.CHAT, Dialect.MESSAGES])
def test_any_text_can_stand_in_a_message(dialect):
    """Quotes are escaped; bytes that were no UTF-8 in a path are replaced."""
    body = json.loads(error_body(dialect, 400, 'a "b"\n\udcff', request_id="\udcff"))
    assert body["error"]["message"] == 'a "b"\n?'
