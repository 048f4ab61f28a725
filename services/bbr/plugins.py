"""What a plugin sees and says, on requests and on answers, and the plugins that come with BBR.

A plugin is an object with `request`, `response` or both; its type's factory gets the configured parameters. It decides
at once: it is called on the event loop, so it computes and does not wait.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from services.extproc.events import Request, ResponseHead
from services.openai.dialects import Dialect
from services.openai.peek import field_text


class OnError(enum.StrEnum):
    """What becomes of an exchange when a plugin raises. A plugin declares its own as `on_error`; default `closed`."""

    OPEN = "open"
    """It goes on as if the plugin were not there."""
    CLOSED = "closed"
    """It is refused with status 500; an answer that has begun is cut off."""


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request whose model is decided, as a plugin sees it."""

    request: Request
    """As the client sent it; the body as earlier plugins left it, empty or None where there is none to see."""
    dialect: Dialect
    asked: str
    """The model that the client asked for."""
    target: str
    """The model that the server is asked for."""
    base: str
    """The target's base model."""

    def field(self, name: str) -> str | None:
        """Return a top-level field of the body: text, or JSON of what is no string. The model is the target."""
        if name == "model":
            return self.target
        if not self.request.body or self.dialect is Dialect.OTHER:
            return None
        return field_text(self.request.body, name, self.request.headers.get("content-type") or "")


@dataclass(frozen=True, slots=True)
class RequestChange:
    """What a plugin wants of a request. Envoy's filter lets BBR set the headers that its `mutation_rules` name."""

    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    body: bytes | None = None
    """A new body of the same dialect; its model is then set as decided."""
    model: str = ""
    """Route to this model instead. The rules resolve it as they would for a client; the answer keeps the asked name."""


@runtime_checkable
class RequestPlugin(Protocol):
    """Sees requests that have a model."""

    def request(self, view: RequestView) -> RequestChange | None:
        """Decide on a request; None changes nothing."""


@dataclass(frozen=True, slots=True)
class AnswerView:
    """The head of an answer, as a plugin sees it."""

    head: ResponseHead
    asked: str = ""
    """The model that the client asked for; empty where the request was not rewritten."""
    target: str = ""


class BodyEdit(Protocol):
    """Changes one answer's body."""

    def feed(self, data: bytes, *, end: bool) -> bytes:
        """Take the next piece and return what can leave; with `end`, the rest. Streams come cut anywhere."""


@dataclass(frozen=True, slots=True)
class AnswerChange:
    """What a plugin wants of an answer."""

    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    body: BodyEdit | None = None
    """Fed with events as they stream; with any other body in one piece."""


@runtime_checkable
class ResponsePlugin(Protocol):
    """Sees the answers of the routes that send them to BBR (docs/routing.md)."""

    def response(self, view: AnswerView) -> AnswerChange | None:
        """Decide on an answer; None changes nothing."""


@dataclass(frozen=True, slots=True)
class BodyFieldToHeader:
    """Copies a top-level field of the body into a header; what a header cannot hold stays out of it."""

    field_name: str
    header_name: str

    def request(self, view: RequestView) -> RequestChange | None:
        """Set the header, if the field is there."""
        value = view.field(self.field_name)
        if not value or not value.isprintable():
            return None
        return RequestChange(set_headers=((self.header_name.lower(), value),))


@dataclass(frozen=True, slots=True)
class BaseModelToHeader:
    """Puts the base model into a header."""

    header_name: str = "x-gateway-base-model-name"

    def request(self, view: RequestView) -> RequestChange:
        """Set the header."""
        return RequestChange(set_headers=((self.header_name.lower(), view.base),))
