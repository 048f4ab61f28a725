"""The picker behind ext_proc: what a request says becomes an `Ask`, and a reservation becomes header and metadata.

Endpoint picker protocol 1.0: the destination goes out as a header and as metadata, equal; the subset hint and the
server that served come in as metadata; 503 when nobody is ready, 429 when shed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from services.epp.answer import Answer
from services.epp.asking import (
    OWN_NAMESPACE,
    ask_of,
    attached,
    attached_exact,
    digest_from,
    first,
    pool_of,
    read,
    token_ask,
)
from services.epp.director import Ask, Director, Reservation
from services.epp.flow.control import EARLY, FlowControl, Ticket
from services.epp.flow.loans import Chances, Loan
from services.epp.records import Observer, Release, Rewritten, Silent
from services.epp.rewrites import HEADERS, Renaming, Rewriter
from services.extproc.decisions import (
    BodyDecision,
    Emit,
    Forward,
    HeadDecision,
    Hold,
    Reject,
    RequestDecision,
    Stream,
    Wait,
)
from services.extproc.errors import ExtProcError
from services.extproc.events import End, Outcome, Request, ResponseChunk, ResponseHead, Value
from services.extproc.exchange import PEER, Exchange, FailMode
from services.openai.dialects import Dialect, dialect_of
from services.openai.digest import KEY, NAMESPACE, Digest
from services.openai.errors import error_body
from services.openai.exact import KEY as EXACT_KEY
from services.openai.exact import Exact
from services.openai.peek import Peek, rewrite
from services.openai.rewrites import sticky_key
from services.tokens.source import Tokens

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
LB_NAMESPACE = "envoy.lb"
POOL = "x-gateway-pool"
"""Key of the gRPC initial metadata that a route or a weighted cluster sets.

It comes before the key `pool` of the request's own metadata, and that before the name of the route's cluster."""


class PickExchange(Exchange):
    """One request: picked once, followed to its end as far as this stream gets to see it."""

    def __init__(self, service: EndpointPicker, pool: str, peer: str = "") -> None:
        self._director = director = service.director
        self._service = service
        self._pool = pool
        self._peer = peer
        self._body: Callable[[], bytes] | None = None
        """Makes the body with another model, where one was chosen."""
        self._renaming: Renaming | None = None
        self._done_with: tuple[str, ...] = ()
        self._ticket: Ticket | None = None
        self._loan: Loan | None = None
        self._reservation: Reservation | None = None
        self._answer = Answer(director.now())

    def decides_on_headers(self, request: Request) -> bool:
        """Do without the body where the digest came as metadata."""
        return request.body is not None or attached(request.metadata) is not None

    async def request(self, request: Request) -> RequestDecision:
        """Pick, or raise why not; with flow control, perhaps after a wait."""
        digest = attached(request.metadata)
        if digest is not None:
            self._done_with = tuple({KEY, EXACT_KEY} & request.metadata[NAMESPACE].keys())
            exact = attached_exact(request.metadata)
            ask = ask_of(request, self._pool, digest, self._peer, exact=exact)
        else:
            ask = ask_of(request, self._pool, self._digest(request), self._peer)
            if self._service.tokens:
                ask = replace(ask, exact=await self._exact(request, ask))
        entered = self._enter(ask)
        if isinstance(entered, Ticket):
            self._ticket = entered
            return Wait(entered.seconds + EARLY)
        return self._placed(entered, ask)

    async def waited(self) -> Forward | Reject:
        """Pick when it is the request's turn, or raise that it did not come."""
        if self._ticket is None:
            raise RuntimeError("nobody waits without a ticket")
        return self._placed(await self._ticket.turn(), self._ticket.ask)

    @property
    def revocable(self) -> bool:
        """A sheddable request can be, where flow control says so."""
        return self._loan is not None

    async def revoked(self) -> Reject:
        """Raise why it was taken back, when it is."""
        if self._loan is None:
            raise RuntimeError("nothing can be taken back without a loan")
        raise await self._loan.taken()

    async def response_head(self, head: ResponseHead) -> HeadDecision:
        """Take in which server answers; read the answer along where it passes here."""
        if self._loan is not None:
            if self._loan.error is not None:  # taken back in the very moment in which the answer came
                raise self._loan.error
            self._loan.settle()
            self._service.chances.begun()
        if self._reservation is None:
            return Forward()
        served = head.metadata.get(LB_NAMESPACE, {}).get(SERVED)
        if isinstance(served, str):
            self._director.served(self._reservation.pool.name, self._reservation.id, served)
        forward = Forward(set_headers=self._reservation.answer_headers)
        self._answer.began(head, self._director.now(), self._renaming.asked if self._renaming else "")
        if self._answer.reader is None:
            return forward
        if self._answer.holds:
            return Hold() if head.can_hold else forward
        return Stream(forward)

    async def response_chunk(self, chunk: ResponseChunk) -> Emit:
        """Let it pass, and note what the server says of its tokens."""
        return Emit(self._answer.feed(chunk, self._director.now()))

    async def response_body(self, body: bytes) -> BodyDecision:
        """Give a plain answer the client's name for the model back."""
        renamed = self._answer.feed(ResponseChunk(body, end=True), self._director.now())
        headers = self._reservation.answer_headers if self._reservation else ()
        return Forward(set_headers=headers, body=None if renamed == body else renamed)

    async def response_overflow(self, held: bytes) -> Forward | Reject:  # noqa: ARG002 - it passes as it is
        """Let an answer pass that is too long to hold: with the server's name rather than not at all."""
        return Forward(set_headers=self._reservation.answer_headers if self._reservation else ())

    def end(self, end: End) -> None:
        """Release when this stream knows the end: it saw all of the answer, or broke off.

        A stream that closes in good order before the answer's body knows nothing of the end: the access log tells,
        or the servers' own counts do.
        """
        if self._ticket is not None:
            self._ticket.leave()
        if self._loan is not None:
            self._loan.settle()
            if self._loan.error is not None:
                return  # its load was taken off with it
            if end.outcome is Outcome.FORWARDED:
                self._service.chances.ended()
        reservation = self._reservation
        if reservation is None or not (self._answer.whole or end.outcome is not Outcome.FORWARDED):
            return
        left = end.outcome is not Outcome.FORWARDED
        ended = self._answer.ended(reservation, self._director.now(), left=left)
        self._director.finish(ended, Release.RESPONSE)

    async def _exact(self, request: Request, ask: Ask) -> Exact | None:
        """Return what is known of the prompt in tokens, where the pool's configuration says how to know."""
        try:
            tokens = self._service.tokens.get(self._director.pool(ask.pool).name)
        except ExtProcError:
            return None  # the pick will say so
        wanted = token_ask(request, ask) if tokens is not None else None
        return await tokens.exact(wanted) if tokens is not None and wanted is not None else None

    def _digest(self, request: Request) -> Digest:
        """Return the digest of a request that no router has read, for the model that its rewrites choose."""
        seen = read(request)
        renaming = self._rename(request, seen)
        if seen is None or renaming is None:
            return digest_from(request, seen)
        if renaming.target != seen.model:
            self._renaming = renaming
            self._body = partial(rewrite, request.body or b"", seen, renaming.target)
        return digest_from(request, seen, renaming.target)

    def _rename(self, request: Request, seen: Peek | None) -> Renaming | None:
        rewriter, observer = self._service.rewriter, self._service.observer
        try:
            pool = self._director.pool(pool_of(request, self._pool)).name
        except ExtProcError:
            return None  # the pick will say so
        header = first(request.headers, HEADERS)
        if seen is None:
            if request.body is None and (header or rewriter.covers(pool)):
                observer.unread(pool)
            return None
        renaming = rewriter.renamed(pool, seen.model, header, sticky_key(request.headers.get, seen.user))
        if renaming is not None and renaming.rule:
            observer.rewrote(Rewritten(renaming.rule, renaming.asked, renaming.target))
        return renaming

    def _enter(self, ask: Ask) -> Reservation | Ticket:
        flow = self._service.flow
        return self._director.pick(ask) if flow is None else flow.enter(ask)

    def _placed(self, reservation: Reservation, ask: Ask) -> Forward:
        self._reservation = reservation
        self._answer.sent_at = self._director.now()
        flow = self._service.flow
        if flow is not None and flow.settings.evicts:
            self._loan = flow.lend(reservation, ask)
        body = self._body() if self._body is not None else None
        forward = _forward(reservation, done_with=self._done_with, body=body)
        # A filter that waits for answers does so for those that may be taken back; an open stream is one to lose.
        unneeded = flow is not None and flow.settings.evicts and self._loan is None
        return replace(forward, last=True) if unneeded and not reservation.answer_headers else forward


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
        rewriter: Rewriter | None = None,
        observer: Observer | None = None,
        powerless: Callable[[], None] = lambda: None,
    ) -> None:
        """`tokens`: by pool, where prompts that come with their body are known in tokens; `rewriter`: likewise, of models.

        `powerless` is called once when eviction turns out to have no effect.
        """
        self.tokens = tokens
        self.fail_mode = fail_mode
        self.director = director
        self.flow = flow
        self.rewriter = rewriter or Rewriter(random.Random(0))
        self.observer = observer or Silent()
        self.chances = Chances(powerless)

    def open(self, context: Mapping[str, str]) -> PickExchange:
        """Start an exchange for the pool that the stream's initial metadata names, if it does."""
        return PickExchange(self, context.get(POOL, ""), context.get(PEER, ""))

    def refuse(self, error: ExtProcError, request: Request | None) -> Reject:
        """Put a refusal into the client's dialect."""
        dialect = dialect_of(request.method, request.path) if request else Dialect.OTHER
        body = error_body(dialect, error.status, error.message, param=error.param, code=error.code)
        headers = (("content-type", "application/json"), *error.headers)
        return Reject(error.status, body, headers, details=f"epp_{error.reason}")


def _forward(reservation: Reservation, *, done_with: tuple[str, ...], body: bytes | None) -> Forward:
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
    return Forward(set_headers=headers, metadata=metadata, body=body)
