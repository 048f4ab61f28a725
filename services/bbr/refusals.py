"""Why BBR does not route a request, and what it tells the client."""

from __future__ import annotations

from services.bbr.records import Refusal
from services.extproc.errors import BadRequest, ExtProcError, Forbidden, Internal, NotFound
from services.openai.errors import PeekError, Reason

_SHOWN = 200  # characters of a client's own text in a message: a model name can be as long as a body


class Refused(Exception):
    """A refusal on its way to being reported."""

    def __init__(self, reason: Reason | Refusal, error: ExtProcError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


def no_model(model: str, reason: Refusal = Refusal.MODEL_NOT_FOUND) -> Refused:
    """Refuse a model that does not exist, or shall not seem to; the client reads the same."""
    message = f"the model {model[:_SHOWN]!r} does not exist; GET /v1/models lists those that do"
    error = NotFound(message, reason=Refusal.MODEL_NOT_FOUND, param="model", code="model_not_found")
    return Refused(reason, error)


def not_allowed(model: str) -> Refused:
    """Refuse a model that this consumer may not use."""
    message = f"the model {model[:_SHOWN]!r} is not available to you; GET /v1/models lists those that are"
    error = Forbidden(message, reason=Refusal.MODEL_NOT_ALLOWED, param="model", code="model_not_allowed")
    return Refused(Refusal.MODEL_NOT_ALLOWED, error)


def unreadable(error: PeekError) -> Refused:
    """Refuse a body that is not a request of its dialect."""
    return Refused(error.reason, BadRequest(error.message, reason=error.reason, param=error.param))


def unknown_path(method: str, path: str) -> Refused:
    """Refuse a body for a path that no model API has."""
    message = f"unknown request URL: {method} {path}"[: _SHOWN + len("unknown request URL: ")]
    error = NotFound(message, reason=Refusal.UNKNOWN_PATH, code="unknown_url")
    return Refused(Refusal.UNKNOWN_PATH, error)


def hidden_body() -> Refused:
    """Refuse because Envoy does not show the body: the gateway's fault."""
    message = "the gateway hides this request's body from its router, so the model cannot be read"
    return Refused(Refusal.BODY_NOT_SEEN, Internal(message, reason=Refusal.BODY_NOT_SEEN))


def encoded_body(encoding: str) -> Refused:
    """Refuse a compressed body."""
    message = f"content-encoding {encoding[:_SHOWN]!r} is not supported: send the body as it is"
    return Refused(Refusal.CONTENT_ENCODING, BadRequest(message, reason=Refusal.CONTENT_ENCODING))


def failed_plugin() -> Refused:
    """Refuse because a plugin that fails closed has failed."""
    return Refused(Refusal.PLUGIN_FAILED, Internal("internal error", reason=Refusal.PLUGIN_FAILED))
