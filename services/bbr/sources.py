"""What a request says of itself besides its body's dialect: which model, whose, and what binds it to a target. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from services.extproc.events import Headers

BODY, PATH = "body", "path"
"""Sources of the model. The third kind is `header:NAME`."""
_HEADER = "header:"
_HEADER_SOURCE = re.compile(r"header:[a-z0-9!#$%&'*+.^_`|~-]+")

USER, SESSION = "user", "session"
"""Sticky keys: the end user that the body names, and a session. The third kind is `header:NAME`."""

SESSION_HEADERS = (
    "x-session-id",
    "x-session-token",
    "session-id",
    "x-claude-code-session-id",
    "x-session-affinity",
)
"""Names that clients and agents use for a session; the first that is there counts."""


def is_source(text: str) -> bool:
    """Say whether `text` names a source of the model."""
    return text in {BODY, PATH} or _HEADER_SOURCE.fullmatch(text) is not None


def is_sticky(text: str) -> bool:
    """Say whether `text` names a sticky key."""
    return text in {USER, SESSION} or _HEADER_SOURCE.fullmatch(text) is not None


def first_named(sources: Iterable[str], headers: Headers, *, body: str, path: str) -> str:
    """Return the model of the first source that names one, empty without any. `body` and `path` are what those name."""
    for source in sources:
        name = body if source == BODY else path if source == PATH else _header(source, headers)
        if name:
            return name
    return ""


def sticky_key(headers: Headers, user: str) -> Callable[[str], str]:
    """Return what gives a request's value of a sticky key; `user` is the one that its body names."""

    def key(kind: str) -> str:
        if kind == USER:
            return user
        if kind == SESSION:
            return next(filter(None, map(headers.get, SESSION_HEADERS)), "")
        return _header(kind, headers) if kind else ""

    return key


def _header(source: str, headers: Headers) -> str:
    return (headers.get(source.removeprefix(_HEADER)) or "").strip()
