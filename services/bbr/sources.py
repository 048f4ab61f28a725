"""What a request says of itself besides its body's dialect: which model. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from services.extproc.events import Headers

BODY, PATH = "body", "path"
"""Sources of the model. The third kind is `header:NAME`."""
_HEADER = "header:"
_HEADER_SOURCE = re.compile(r"header:[a-z0-9!#$%&'*+.^_`|~-]+")


def is_source(text: str) -> bool:
    """Say whether `text` names a source of the model."""
    return text in {BODY, PATH} or _HEADER_SOURCE.fullmatch(text) is not None


def first_named(sources: Iterable[str], headers: Headers, *, body: str, path: str) -> str:
    """Return the model of the first source that names one, empty without any. `body` and `path` are what those name."""
    for source in sources:
        name = body if source == BODY else path if source == PATH else _header(source, headers)
        if name:
            return name
    return ""


def _header(source: str, headers: Headers) -> str:
    return (headers.get(source.removeprefix(_HEADER)) or "").strip()
