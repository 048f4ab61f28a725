"""The interface a service implements: one `Exchange` per HTTP exchange, made by its `Service`.

A service overrides what it cares about; everything else passes through untouched.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol

from services.extproc.decisions import BodyDecision, Emit, Forward, HeadDecision, Reject, RequestDecision
from services.extproc.errors import ExtProcError
from services.extproc.events import End, Request, ResponseChunk, ResponseHead


class FailMode(enum.StrEnum):
    """What happens to a request when the service has a bug."""

    OPEN = "open"
    """The request goes on as it came."""
    CLOSED = "closed"
    """The request is refused with status 500."""


class Exchange:
    """One HTTP exchange as a service sees it. State between request and response lives on the instance.

    Calls come in order and one at a time: `request`, then `response_head`, then the chunks or the held body, then
    `end`, exactly once, also when Envoy's own answer skips the request or the client leaves half-way.
    """

    def decides_on_headers(self, request: Request) -> bool:  # noqa: ARG002 - an override reads it
        """Say whether `request` can be decided now, without its body (`request.body` is None)."""
        return False

    async def request(self, request: Request) -> RequestDecision:  # noqa: ARG002
        """Decide on the request. Raise an `ExtProcError` to refuse it in the service's own words."""
        return Forward()

    async def waited(self) -> Forward | Reject:
        """Decide on the request after `request` returned `Wait`. Cancelled when the client leaves meanwhile."""
        return Forward()

    @property
    def revocable(self) -> bool:
        """Whether a request that went on may still be taken back, as long as its answer has not begun."""
        return False

    async def revoked(self) -> Reject:
        """Wait until the request is to be taken back, or raise an `ExtProcError` then; asked for while `revocable`.

        Cancelled when the answer begins or the client leaves. What was decided in that very moment is for
        `response_head` to say: the answer can still be refused there.
        """
        raise NotImplementedError

    async def response_head(self, head: ResponseHead) -> HeadDecision:  # noqa: ARG002
        """Decide on the answer's head, and by that who sees its body."""
        return Forward()

    async def response_chunk(self, chunk: ResponseChunk) -> Emit:
        """Say what leaves in place of `chunk`; asked for after `Stream`."""
        return Emit(chunk.data)

    async def response_body(self, body: bytes) -> BodyDecision:  # noqa: ARG002
        """Decide on the held head and body; asked for after `Hold`."""
        return Forward()

    async def response_overflow(self, held: bytes) -> Forward | Reject:  # noqa: ARG002
        """Decide on a body over the limit of `Hold`: let it pass unseen from here on, or refuse it."""
        return Reject(502, details="response_too_large")

    def end(self, end: End) -> None:
        """Release what this exchange holds. Called exactly once."""


PEER = ":peer"
"""Key of a stream's context: the proxy's address as gRPC writes it. No metadata can be called so."""


class Service(Protocol):
    """What the transport needs of a service."""

    name: str
    """`bbr`, `safety` or `epp`: the prefix of logs and metrics."""
    fail_mode: FailMode

    def open(self, context: Mapping[str, str]) -> Exchange:
        """Start an exchange. `context` is the gRPC initial metadata that the filter or route sets, lower case, and `PEER`."""

    def refuse(self, error: ExtProcError, request: Request | None) -> Reject:
        """Put a refusal into the words of the client's API dialect. `request` is None where none was seen."""
