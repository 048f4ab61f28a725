"""What happened on one HTTP exchange, as plain frozen values: no protobuf, no gRPC, no ext_proc phases."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

Value = str | float | bool | None | list["Value"] | dict[str, "Value"]
"""A JSON value, as Envoy's metadata and attributes carry them (`google.protobuf.Value`)."""

Metadata = Mapping[str, Mapping[str, Value]]
"""Envoy's dynamic metadata: namespace → key → value."""


class Headers:
    """HTTP headers in the order of the wire: names in lower case, repeated names kept, values as text.

    Values are UTF-8 with surrogate escapes, so that any byte sequence survives a round trip.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items = tuple(items)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of the lower-case `name`."""
        for key, value in self._items:
            if key == name:
                return value
        return default

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value of the lower-case `name`, in order."""
        return tuple(value for key, value in self._items if key == name)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        return any(key == name for key, _ in self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Headers({list(self._items)!r})"


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request, as far as this service gets to see it."""

    headers: Headers
    body: bytes | None = None
    """The whole body; `b""` when the request has none; None when it has one that this service does not see."""
    metadata: Metadata = field(default_factory=dict)
    """The metadata namespaces that Envoy forwards to this filter."""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    """The request attributes that the filter's configuration names, such as `xds.route_name`."""

    @property
    def path(self) -> str:
        """The path without its query."""
        return (self.headers.get(":path") or "").partition("?")[0]

    @property
    def method(self) -> str:
        """The method, in capitals as HTTP has it; empty when the headers lack one."""
        return self.headers.get(":method") or ""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers of the answer, which Envoy itself may have made (503, 413, another filter's refusal)."""

    status: int
    headers: Headers
    end: bool = False
    """No body follows."""
    request_seen: bool = True
    """False: this service never saw the request, so Envoy or an earlier filter answered it."""
    body_seen: bool = True
    """False: the filter is not sent the body. There is nothing to `Stream` or `Hold`, and the stream ends here."""
    can_hold: bool = True
    """False: the head leaves before the body is decided on."""
    metadata: Metadata = field(default_factory=dict)
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResponseChunk:
    """A piece of the answer's body, cut wherever the network cut it. The last one has `end` and may be empty."""

    data: bytes
    end: bool = False


class Outcome(enum.StrEnum):
    """How an exchange ended. A closed set, fit for a metric label."""

    FORWARDED = "forwarded"
    """The service said its last word and the exchange went on or finished."""
    REJECTED = "rejected"
    """The service answered the client itself, or ended the answer early."""
    ABANDONED = "abandoned"
    """The client left, or Envoy reset the stream, while the service still had something to say."""
    FAILED = "failed"
    """A bug in the service, or a breach of the protocol."""


@dataclass(frozen=True, slots=True)
class End:
    """The last event of every exchange, whatever happened to it."""

    outcome: Outcome
    reason: str = ""
    """Short and of low cardinality: an error's reason, empty when all went well."""
