"""Configuration files: YAML, read strictly, so that a typo is an error with its place and never a default."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
import yaml
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535)]
"""0 lets the system choose."""
Seconds = Annotated[float, Meta(ge=0)]

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one sentence with file, place and expectation."""


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Files in PEM form. They are read again when they change, so certificates can be renewed in place."""

    cert: str
    """The server's certificate chain."""
    key: str
    client_ca: str | None = None
    """Only clients with a certificate of this authority are served (mTLS)."""


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a service listens and how it leaves."""

    host: str = "127.0.0.1"
    port: Port
    """ext_proc and gRPC health."""
    health_port: Port | None = None
    """gRPC health alone, without TLS: for probes. None: no such port."""
    metrics_port: Port | None = None
    """`/metrics` over HTTP. None: no such port."""
    tls: Tls | None = None
    """For the ext_proc port."""
    drain_seconds: Seconds = 0.0
    """Time between NOT_SERVING and the stop: Envoy's health check must notice, so more than its interval."""
    grace_seconds: Seconds = 30.0
    """Time for open streams to finish. Shorter than the longest streamed answer, it cuts that answer."""


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What goes to stderr, as JSON lines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    sample: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of requests that get a line at level info; failed ones always get one, all of them at debug."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds on what clients can make the service hold."""

    body_bytes: Annotated[int, Meta(ge=1)] = 16 * 1024 * 1024
    """Of one request body. Over it the client gets 413."""
    held_bytes: Annotated[int, Meta(ge=1)] = 512 * 1024 * 1024
    """Of all bodies that wait for a decision, in this process. Over it the client gets 503."""
    concurrent_streams: Annotated[int, Meta(ge=1)] = 20_000
    """Per connection; not below Envoy's own limit (`max_requests`), or requests wait in Envoy."""


def load(path: str | Path, kind: type[T]) -> T:
    """Read the YAML file at `path` as `kind`, a strict msgspec Struct; raise `ConfigError` with what is wrong where."""
    return parse(read(path), kind, name=str(path))


def read(path: str | Path) -> str:
    """Return the text of the file at `path`; raise `ConfigError` when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def parse(text: str, kind: type[T], *, name: str = "configuration") -> T:
    """Read YAML `text` as `kind`; `name` stands for the file in errors."""
    try:
        values = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {_one_line(error)}") from error
    try:
        return msgspec.convert({} if values is None else values, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}") from error


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}{getattr(error, 'problem', None) or error}"


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a repeated key win silently; here it is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[object] = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge" and name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {name!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)
