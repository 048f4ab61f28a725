"""The few kinds of refusal. An error knows its HTTP status and its reason; only the service knows its body."""

from __future__ import annotations

import os
from typing import ClassVar


class ExtProcError(Exception):
    """A refusal that becomes an answer to the client. `reason` is a metric label: one word of a closed set."""

    status: ClassVar[int] = 500
    default_reason: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.param = param
        self.code = code
        self.headers = headers


class BadRequest(ExtProcError):
    """The client's request cannot be read as what it claims to be."""

    status = 400
    default_reason = "bad_request"


class Blocked(ExtProcError):
    """A policy forbids the content."""

    status = 403
    default_reason = "blocked"


class Forbidden(ExtProcError):
    """Not for this client."""

    status = 403
    default_reason = "forbidden"


class NotFound(ExtProcError):
    """No such model."""

    status = 404
    default_reason = "not_found"


class TooLarge(ExtProcError):
    """The body is over the limit."""

    status = 413
    default_reason = "too_large"


class Overloaded(ExtProcError):
    """Shed: try again later. Says when in `headers` (`retry-after`)."""

    status = 429
    default_reason = "overloaded"


class Unavailable(ExtProcError):
    """Nothing can serve this now."""

    status = 503
    default_reason = "unavailable"


class Internal(ExtProcError):
    """A bug of ours, answered for a service that fails closed."""

    status = 500
    default_reason = "internal"


class ProtocolError(Exception):
    """Envoy or we broke the ext_proc protocol: the stream ends with an error status."""


class BindError(OSError):
    """A port cannot be had; the message says which and why."""

    @classmethod
    def on(cls, host: str, port: int, cause: Exception) -> BindError:
        """Return the error for one address; asyncio and gRPC bury the system's reason in words of their own."""
        number = cause.errno if isinstance(cause, OSError) else None
        return cls(f"cannot listen on {host} port {port}: {os.strerror(number) if number else cause}")
