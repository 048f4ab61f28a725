"""The picker behind ext_proc: what a request says becomes an `Ask`, and a reservation becomes header and metadata.

Endpoint picker protocol 1.0: the destination goes out as a header and as metadata, equal; the subset hint and the
server that served come in as metadata; 503 when nobody is ready, 429 when shed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from services.epp.answer import AnswerReader
from services.epp.asking import OWN_NAMESPACE, ask_of, attached, token_ask
from services.epp.director import Ask, Director, Reservation
from services.epp.flow.control import EARLY, FlowControl, Ticket
from services.epp.records import Ended, EndOutcome, Release
from services.extproc.decisions import Emit, Forward, HeadDecision, Reject, RequestDecision, Stream, Wait
from services.extproc.errors import ExtProcError
from services.extproc.events import End, Outcome, Request, ResponseChunk, ResponseHead, Value
from services.extproc.exchange import PEER, Exchange, FailMode
from services.openai.dialects import Dialect, dialect_of
from services.openai.digest import KEY, NAMESPACE
from services.openai.errors import error_body
from services.openai.exact import KEY as EXACT_KEY
from services.openai.exact import Exact
from services.tokens.source import Tokens

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
LB_NAMESPACE = "envoy.lb"
POOL = "x-gateway-pool"
"""Key of the gRPC initial metadata that a route or a weighted cluster sets.

It comes before the key `pool` of the request's own metadata, and that before the name of the route's cluster."""


class PickExchange(Exchange):
    """One request: picked once, followed to its end as far as this stream gets to see it."""

    def __init__(
        self,
        director: Director,
        flow: FlowControl | None,
        pool: str,
        peer: str = "",
        tokens: Mapping[str, Tokens] = MappingProxyType({}),
    ) -> None:
        self._director = director
        self._tokens = tokens
        self._flow = flow
        self._pool = pool
        self._peer = peer
        self._done_with: tuple[str, ...] = ()
        self._ticket: Ticket | None = None
        self._reservation: Reservation | None = None
        self._answer = _Answer(director.now())

    def decides_on_headers(self, request: Request) -> bool:
        """Do without the body where the digest came as metadata."""
        return request.body is not None or attached(request.metadata) is not None

    async def request(self, request: Request) -> RequestDecision:
        """Pick, or raise why not; with flow control, perhaps after a wait."""
        digest = attached(request.metadata)
        if digest is not None:
            self._done_with = tuple({KEY, EXACT_KEY} & request.metadata[NAMESPACE].keys())
        ask = ask_of(request, self._pool, digest, self._peer)
        if digest is None and self._tokens:
            ask = replace(ask, exact=await self._exact(request, ask))
        entered = self._enter(ask)
        if isinstance(entered, Ticket):
            self._ticket = entered
            return Wait(entered.seconds + EARLY)
        return self._placed(entered)

    async def waited(self) -> Forward | Reject:
        """Pick when it is the request's turn, or raise that it did not come."""
        if self._ticket is None:
            raise RuntimeError("nobody waits without a ticket")
        return self._placed(await self._ticket.turn())

    async def response_head(self, head: ResponseHead) -> HeadDecision:
        """Take in which server answers; read the answer along where it passes here."""
        if self._reservation is None:
            return Forward()
        served = head.metadata.get(LB_NAMESPACE, {}).get(SERVED)
        if isinstance(served, str):
            self._director.served(self._reservation.pool.name, self._reservation.id, served)
        self._answer.began(head, self._director.now())
        forward = Forward(set_headers=self._reservation.answer_headers)
        return Stream(forward) if self._answer.reader is not None else forward

    async def response_chunk(self, chunk: ResponseChunk) -> Emit:
        """Let it pass, and note what the server says of its tokens."""
        if self._answer.reader is not None:
            self._answer.reader.feed(chunk, self._director.now())
        return Emit(chunk.data)

    def end(self, end: End) -> None:
        """Release when this stream knows the end: it saw all of the answer, or broke off.

        A stream that closes in good order before the answer's body knows nothing of the end: the access log tells,
        or the servers' own counts do.
        """
        if self._ticket is not None:
            self._ticket.leave()
        reservation = self._reservation
        if reservation is None or not (self._answer.whole or end.outcome is not Outcome.FORWARDED):
            return
        left = end.outcome is not Outcome.FORWARDED
        ended = self._answer.ended(reservation, self._director.now(), left=left)
        self._director.finish(ended, Release.RESPONSE)

    async def _exact(self, request: Request, ask: Ask) -> Exact | None:
        """Return what is known of the prompt in tokens, where the pool's configuration says how to know."""
        try:
            tokens = self._tokens.get(self._director.pool(ask.pool).name)
        except ExtProcError:
            return None  # the pick will say so
        wanted = token_ask(request, ask) if tokens is not None else None
        return await tokens.exact(wanted) if tokens is not None and wanted is not None else None

    def _enter(self, ask: Ask) -> Reservation | Ticket:
        return self._director.pick(ask) if self._flow is None else self._flow.enter(ask)

    def _placed(self, reservation: Reservation) -> Forward:
        self._reservation = reservation
        self._answer.sent_at = self._director.now()
        return _forward(reservation, done_with=self._done_with)


class _Answer:
    """What this stream sees of the answer. Times are readings of the director's clock."""

    def __init__(self, began_at: float) -> None:
        self._began_at = began_at
        self._head_at: float | None = None
        self._status = 0
        self.sent_at = began_at
        self.reader: AnswerReader | None = None
        self.whole = False
        """The stream lasts until the answer has ended."""

    def began(self, head: ResponseHead, now: float) -> None:
        self._head_at, self._status = now, head.status
        self.whole = head.end or head.body_seen
        self.reader = AnswerReader(head) if head.body_seen and not head.end else None

    def ended(self, reservation: Reservation, now: float, *, left: bool) -> Ended:
        start, reader = self._began_at, self.reader
        return Ended(
            pool=reservation.pool.name,
            decision=reservation.id,
            outcome=EndOutcome.CLIENT_LEFT if left else EndOutcome.COMPLETED,
            status=self._status,
            seconds=now - start,
            sent_after=self.sent_at - start,
            answered_after=None if self._head_at is None else self._head_at - start,
            first_token_after=reader.first_at - start if reader and reader.first_at is not None else None,
            response_bytes=reader.bytes if reader else 0,
            usage=reader.usage if reader else None,
        )


class EndpointPicker:
    """The service."""

    name = "epp"

    def __init__(
        self,
        director: Director,
        flow: FlowControl | None = None,
        *,
        fail_mode: FailMode = FailMode.CLOSED,
        tokens: Mapping[str, Tokens] = MappingProxyType({}),
    ) -> None:
        """`tokens`: by pool, where prompts that come with their body are known in tokens."""
        self._tokens = tokens
        self.fail_mode = fail_mode
        self._director = director
        self._flow = flow

    def open(self, context: Mapping[str, str]) -> PickExchange:
        """Start an exchange for the pool that the stream's initial metadata names, if it does."""
        pool, peer = context.get(POOL, ""), context.get(PEER, "")
        return PickExchange(self._director, self._flow, pool, peer, self._tokens)

    def refuse(self, error: ExtProcError, request: Request | None) -> Reject:
        """Put a refusal into the client's dialect."""
        dialect = dialect_of(request.method, request.path) if request else Dialect.OTHER
        body = error_body(dialect, error.status, error.message, param=error.param, code=error.code)
        headers = (("content-type", "application/json"), *error.headers)
        return Reject(error.status, body, headers, details=f"epp_{error.reason}")


def _forward(reservation: Reservation, *, done_with: tuple[str, ...]) -> Forward:
    destination = reservation.addresses
    own: dict[str, Value] = {"pool": reservation.pool.name, "decision": reservation.id}
    if reservation.explained:
        own["explain"] = reservation.explained
    if reservation.answer_headers:
        own["answer"] = dict(reservation.answer_headers)
    metadata: dict[str, Mapping[str, Value]] = {LB_NAMESPACE: {DESTINATION: destination}, OWN_NAMESPACE: own}
    if done_with:
        # Some kilobytes that nobody needs any more would come back with every access log entry.
        metadata[NAMESPACE] = dict.fromkeys(done_with, "")
    headers = ((DESTINATION, destination), *reservation.decision.headers)
    return Forward(set_headers=headers, metadata=metadata)
