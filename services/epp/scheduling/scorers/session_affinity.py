"""A session stays on its server."""

from __future__ import annotations

import base64
import binascii
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation

MAX_SESSIONS = 100_000
"""Remembered at once, some 20 MB: a client that invents session ids must not fill the memory."""

Header = Annotated[str, Meta(min_length=1)]


class EncodedEndpointHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where the token travels, in requests and answers."""

    header_name: Header = "x-session-token"


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a session's id is found."""

    header: Header


class SessionIdConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How sessions are known, and for how long."""

    sources: tuple[Source, ...] = (Source("x-session-id"),)
    """The first that the request has counts."""
    eviction_ttl_seconds: Annotated[float, Meta(gt=0)] = 300.0
    """After its last request."""


@dataclass(frozen=True, slots=True)
class SessionToken:
    """1 for the server that the token names, 0 for the others; nothing is kept here.

    The token is the base64 form of `ip:port`. It goes out with the answer, where the proxy shows it to us.
    """

    header_name: str

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by the token."""
        bound = _decoded(situation.headers.get(self.header_name) or "")
        return [float(server.address == bound) for server in servers]

    def chosen(self, situation: Situation, server: Server) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - Learner
        """Give the client a token for this server."""
        return ((self.header_name, base64.b64encode(server.address.encode()).decode()),)


@dataclass(frozen=True, slots=True)
class SessionId:
    """1 for the server that the session is bound to, 0 for the others.

    A new session, and one whose server is no candidate, belongs to the server with the fewest sessions. It is bound
    to whoever gets its request in the end, and stays with that one while it is a candidate.
    """

    headers: tuple[str, ...]
    ttl: float
    _bound: OrderedDict[tuple[str, str], tuple[str, float]] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )
    """Pool and session → address and last request, longest ago first."""
    _sessions: Counter[tuple[str, str]] = field(
        default_factory=Counter, init=False, repr=False, compare=False
    )
    """Pool and address → sessions."""
    _told: list[Callable[[str, str, str], object]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )
    """Hear of every binding."""

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by the binding."""
        session = self._session(situation)
        if not session:
            return [0.0] * len(servers)
        self._expire(situation.now)
        address = self._bound.get((situation.pool, session), ("", 0.0))[0]
        if all(server.address != address for server in servers):
            address = min(servers, key=lambda s: self._sessions[situation.pool, s.address]).address
        return [float(server.address == address) for server in servers]

    def chosen(self, situation: Situation, server: Server) -> Sequence[tuple[str, str]]:
        """Bind the session."""
        if session := self._session(situation):
            self.remember(situation.pool, session, server.address, situation.now)
            for told in self._told:
                told(situation.pool, session, server.address)
        return ()

    def tell(self, told: Callable[[str, str, str], object]) -> None:
        """Call `told` with pool, session and address of every binding, in place of whoever was told before."""
        self._told[:] = [told]

    def remember(self, pool: str, session: str, address: str, last: float) -> None:
        """Bind a session whose request at `last` went to `address`, unless it had a later one."""
        key = (pool, session)
        if key in self._bound and self._bound[key][1] > last:
            return
        self._drop(key)
        self._bound[key] = (address, last)
        self._sessions[pool, address] += 1
        if len(self._bound) > MAX_SESSIONS:
            self._drop(next(iter(self._bound)))

    def _session(self, situation: Situation) -> str:
        return next((value for name in self.headers if (value := situation.headers.get(name))), "")

    def _expire(self, now: float) -> None:
        while self._bound:
            key, (_, last) = next(iter(self._bound.items()))
            if last > now - self.ttl:
                return
            self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        found = self._bound.pop(key, None)
        if found is not None:
            counted = (key[0], found[0])
            self._sessions[counted] -= 1
            if not self._sessions[counted]:
                del self._sessions[counted]


def session_affinity(
    strategy: Literal["encoded_endpoint_header", "session_id"] = "encoded_endpoint_header",
    encoded_endpoint_header_config: EncodedEndpointHeader | None = None,
    session_id_config: SessionIdConfig | None = None,
) -> SessionToken | SessionId:
    """Make the reference's `session-affinity-scorer`; raise ValueError when the other strategy's part is given."""
    if strategy == "encoded_endpoint_header":
        if session_id_config is not None:
            raise ValueError("sessionIdConfig belongs to strategy session_id")
        return SessionToken((encoded_endpoint_header_config or EncodedEndpointHeader()).header_name.lower())
    if encoded_endpoint_header_config is not None:
        raise ValueError("encodedEndpointHeaderConfig belongs to strategy encoded_endpoint_header")
    settings = session_id_config or SessionIdConfig()
    return SessionId(
        tuple(source.header.lower() for source in settings.sources), settings.eviction_ttl_seconds
    )


def _decoded(token: str) -> str:
    """Return the address in a token; empty for anything else, which a client may well send."""
    try:
        return base64.b64decode(token, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
