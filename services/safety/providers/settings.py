"""What every provider of ours can be told, beside what is its own. Endpoints come from here, never from a request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self, TypeVar

import msgspec
from msgspec import Meta


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a credential is: exactly one of the two."""

    env: str | None = None
    """Name of an environment variable, read at start."""
    file: str | None = None
    """Path of a file, read again when it changes: mounted secrets and short-lived tokens."""

    def __post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise ValueError("expected either env or file")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a provider is asked."""

    attempts: Annotated[int, Meta(ge=1, le=5)] = 2
    """Tries of one call within the deadline, after a broken connection or a 5xx. Never after 429."""
    breaker_failures: Annotated[int, Meta(ge=1)] = 5
    """Failed calls in a row after which nothing is asked for `breaker_seconds`; then one call tries."""
    breaker_seconds: Annotated[float, Meta(gt=0)] = 10.0
    calls: Annotated[int, Meta(ge=1)] = 32
    """At once."""
    size: Annotated[int, Meta(ge=1)] | None = None
    """Characters that are judged at once; longer texts are cut. None: what the service documents."""
    overlap: Annotated[int, Meta(ge=0)] = 256
    """Characters that neighbouring pieces of a long text share: what is longer may be cut in two unseen."""
    roles: tuple[str, ...] = ()
    """Only texts of these roles are sent; empty sends all."""
    cache_seconds: Annotated[float, Meta(ge=0)] = 300.0
    """How long a clean or dirty verdict on one text holds, so that a growing conversation is judged once."""
    cache_entries: Annotated[int, Meta(ge=0)] = 10_000


class HttpSettings(Settings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a provider over HTTP is asked."""

    url: Annotated[str, Meta(pattern=r"^https?://[^/\s]+")]
    """Base address. Redirects are not followed."""
    auth: Auth | None = None
    headers: dict[str, str] = {}
    """Sent with every call."""


S = TypeVar("S", bound=Settings)


def read(parameters: Mapping[str, object], kind: type[S]) -> S:
    """Return `parameters` as `kind`; raise `ValueError` with what is wrong where."""
    return msgspec.convert(dict(parameters), kind, strict=True)


class Secret:
    """A credential by name. Raises `ValueError` at once if it is not there."""

    def __init__(self, auth: Auth) -> None:
        self._path = Path(auth.file) if auth.file else None
        self._stamp = -1
        self._value = os.environ.get(auth.env or "", "")
        if self._path is not None:
            self()
        elif not self._value:
            raise ValueError(f"auth.env: {auth.env} is not set")

    def __call__(self) -> str:
        """Return the credential as it is now; `ValueError` if its file is gone or empty."""
        if self._path is None:
            return self._value
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._value, self._stamp = self._path.read_text(encoding="utf-8").strip(), stamp
        except OSError as error:
            raise ValueError(f"auth.file: {error}") from error
        if not self._value:
            raise ValueError(f"auth.file: {self._path} is empty")
        return self._value

    @classmethod
    def maybe(cls, auth: Auth | None) -> Self | None:
        """Return the secret, None if there is none to use."""
        return None if auth is None else cls(auth)
