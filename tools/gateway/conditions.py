"""What a route may ask of a request beside its model: path, method, headers. Knows nothing of Envoy's API."""

from __future__ import annotations

from typing import Annotated, Literal

import re2
from msgspec import Meta, Struct

HeaderName = Annotated[str, Meta(pattern="^[a-z0-9!#$%&'*+.^`|~-]+$", max_length=128)]
"""In lower case, as HTTP/2 writes it. The edge drops names with an underscore, so no request has one."""

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class PathCondition(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A path without its query. Exactly one of the three is set."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None
    """RE2, over the whole path."""

    def __post_init__(self) -> None:
        _require_one("a path", self.exact, self.prefix, self.regex)
        _require_re2(self.regex)
        for value in (self.exact, self.prefix):
            if value is not None and not value.startswith("/"):
                raise ValueError(f"a path starts with a slash: {value}")


class HeaderCondition(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request header. Exactly one of the four is set beside the name."""

    name: HeaderName
    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None
    """RE2, over the whole value."""
    present: bool | None = None
    """False asks for its absence."""

    def __post_init__(self) -> None:
        _require_one(f"the header {self.name}", self.exact, self.prefix, self.regex, self.present)
        _require_re2(self.regex)


def _require_one(what: str, *given: str | bool | None) -> None:
    if sum(value is not None for value in given) != 1:
        raise ValueError(
            f"{what} is matched by exactly one of exact, prefix, regex (a header also by present)"
        )


def _require_re2(regex: str | None) -> None:
    """Refuse here what Envoy would refuse at its start."""
    if regex is None:
        return
    try:
        re2.compile(regex)
    except re2.error as error:
        raise ValueError(f"the regular expression {regex!r} is not RE2: {error}") from error
