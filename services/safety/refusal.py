"""Refusals in the words of the client's dialect, saying which category of the policy decided."""

from __future__ import annotations

from collections.abc import Mapping

from services.extproc.decisions import Reject
from services.extproc.errors import ExtProcError
from services.openai.dialects import Dialect
from services.openai.edits import encode_json
from services.openai.errors import error_body
from services.safety.holdback import LIMIT
from services.safety.judge import UNDECODABLE
from services.safety.policy import Side
from services.safety.verdict import UNJUDGED

VIOLATION = "content_policy_violation"

REQUEST_ID = "x-request-id"
_JSON = ("content-type", "application/json")
_TEXT = ("content-type", "text/plain")
_PROMPT_FAULTS = {
    UNDECODABLE: (400, "The request body is not JSON that can be judged: one UTF-8 document, no key twice."),
    UNJUDGED: (503, "The content could not be judged; try again later."),
}
_ANSWER_FAULTS = {
    UNDECODABLE: (502, "The model server's answer cannot be judged."),
    LIMIT: (502, "The model server's answer is too large to be judged."),
    UNJUDGED: (503, "The answer could not be judged; try again later."),
}


def of_prompt(dialect: Dialect, side: Side, category: str, request_id: str) -> Reject:
    """Refuse a prompt because of `category`."""
    return _refuse(dialect, side, category, _PROMPT_FAULTS, request_id)


def of_answer(dialect: Dialect, side: Side, category: str, request_id: str) -> Reject:
    """Refuse a whole answer because of `category`."""
    return _refuse(dialect, side, category, _ANSWER_FAULTS, request_id)


def of_error(dialect: Dialect, error: ExtProcError, request_id: str) -> Reject:
    """Put an error of ours into the words of the dialect."""
    body = error_body(
        dialect, error.status, error.message, param=error.param, code=error.code, request_id=request_id
    )
    headers = (*_json_headers(request_id), *error.headers)
    return Reject(error.status, body, headers, details=f"safety_{error.reason}")


def _refuse(
    dialect: Dialect, side: Side, category: str, faults: Mapping[str, tuple[int, str]], request_id: str
) -> Reject:
    headers = _json_headers(request_id)
    if category in faults:
        status, message = faults[category]
        body = error_body(dialect, status, message, code=category, request_id=request_id)
        return Reject(status, body, headers, details=f"safety_{category}")
    message = side.message.format(category=category)
    if side.plain_text:
        return Reject(side.status, _as_gke(message), (_TEXT, *headers[1:]), details="safety_blocked")
    body = error_body(dialect, side.status, message, code=category, kind=VIOLATION, request_id=request_id)
    return Reject(side.status, body, headers, details="safety_blocked")


def _json_headers(request_id: str) -> tuple[tuple[str, str], ...]:
    return (_JSON, (REQUEST_ID, request_id)) if request_id else (_JSON,)


def _as_gke(message: str) -> bytes:
    """Return the body of GKE's traffic extension: JSON that calls itself text, and a bad request with status 403."""
    error = {"type": "bad_request_error", "message": message, "param": "", "code": ""}
    return encode_json({"error": dict(error)})
