"""Refusals in the words of the client's dialect, saying which category of the policy decided."""

from __future__ import annotations

from services.extproc.decisions import Reject
from services.extproc.errors import ExtProcError
from services.openai.dialects import Dialect
from services.openai.errors import error_body
from services.safety.holdback import LIMIT
from services.safety.judge import UNDECODABLE, UNJUDGED
from services.safety.policy import Side

VIOLATION = "content_policy_violation"

_JSON = ("content-type", "application/json")
_PROMPT_FAULTS = {
    UNDECODABLE: (400, "The request body is not JSON that can be judged: one UTF-8 document, no key twice."),
    UNJUDGED: (503, "The content could not be judged; try again later."),
}
_ANSWER_FAULTS = {
    UNDECODABLE: (502, "The model server's answer cannot be judged."),
    LIMIT: (502, "The model server's answer is too large to be judged."),
}


def of_prompt(dialect: Dialect, side: Side, category: str) -> Reject:
    """Refuse a prompt because of `category`."""
    return _refuse(dialect, side, category, _PROMPT_FAULTS)


def of_answer(dialect: Dialect, side: Side, category: str) -> Reject:
    """Refuse a whole answer because of `category`."""
    return _refuse(dialect, side, category, _ANSWER_FAULTS)


def of_error(dialect: Dialect, error: ExtProcError) -> Reject:
    """Put an error of ours into the words of the dialect."""
    body = error_body(dialect, error.status, error.message, param=error.param, code=error.code)
    return Reject(error.status, body, (_JSON, *error.headers), details=f"safety_{error.reason}")


def _refuse(dialect: Dialect, side: Side, category: str, faults: dict[str, tuple[int, str]]) -> Reject:
    if category in faults:
        status, message = faults[category]
        body = error_body(dialect, status, message, code=category)
        return Reject(status, body, (_JSON,), details=f"safety_{category}")
    message = side.message.format(category=category)
    body = error_body(dialect, side.status, message, code=category, kind=VIOLATION)
    return Reject(side.status, body, (_JSON,), details="safety_blocked")
