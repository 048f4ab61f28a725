"""Session and exchange together: the only place where an exchange's decisions are awaited. No gRPC, no protobuf."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from services.extproc.budget import Budget
from services.extproc.decisions import Reject
from services.extproc.errors import ExtProcError, Internal, ProtocolError
from services.extproc.events import End, Headers, Outcome, Request, ResponseChunk, ResponseHead
from services.extproc.exchange import FailMode, Service
from services.extproc.messages import Message, Reply
from services.extproc.observe import Observer, StreamRecord
from services.extproc.session import Session
from services.extproc.turns import Decision, HeldBody, Overflow, Question, Refusal, Revocation, Turn, Waiting


class Conversation:
    """One stream of one service: feed it messages, send what it returns, and close it whatever happened.

    `clock` is in seconds and only compared with itself.
    """

    def __init__(
        self,
        service: Service,
        context: Mapping[str, str],
        *,
        body_limit: int,
        budget: Budget,
        observer: Observer,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._service = service
        self._budget = budget
        self._counted = 0
        self._observer = observer
        self._clock = clock
        self._began = clock()
        self._request_seconds = self._response_seconds = 0.0
        self._failed = ""
        self._reason = ""
        self._closed = False
        self.waiting = False
        """The decision on the request takes its time: send what was returned, then call `resume`."""
        self._exchange = service.open(context)
        observer.started()
        self._session = Session(body_limit=body_limit, decides_on_headers=self._exchange.decides_on_headers)

    @property
    def over(self) -> bool:
        """Nothing more is owed: the stream can end."""
        return self._session.over

    @property
    def revocable(self) -> bool:
        """The request may be taken back while its answer is waited for: await `revoked` beside the next message."""
        return self._session.awaits_answer and self._exchange.revocable

    async def receive(self, message: Message) -> tuple[Reply, ...]:
        """Return the replies to `message`; raise `ProtocolError` when the stream must end with an error."""
        replies: list[Reply] = []
        await self._converse(lambda: self._session.receive(message), replies)
        self._count(self._session.held)
        return tuple(replies)

    async def resume(self) -> tuple[Reply, ...]:
        """Wait for the decision that takes its time; return the replies that it leads to."""
        replies: list[Reply] = []
        self.waiting = False
        await self._converse(lambda: Turn(ask=_RESUMED), replies)
        self._count(self._session.held)
        return tuple(replies)

    async def revoked(self) -> tuple[Reply, ...]:
        """Wait until the service takes the request back; return what is to be sent. Cancel it when a message comes."""
        replies: list[Reply] = []
        await self._converse(lambda: Turn(ask=_REVOKED), replies)
        self._count(self._session.held)
        return tuple(replies)

    def broken(self, error: ProtocolError) -> None:
        """Hear why the stream must end: a message that could not be read or may not come, a decision too late."""
        self._fail("protocol", error)

    def close(self) -> None:
        """End the exchange: the input ended, the stream was cancelled, or nothing more is owed. Works once."""
        if self._closed:
            return
        self._closed = True
        self._count(0)
        outcome = Outcome.FAILED if self._failed else self._session.outcome()
        early = outcome is Outcome.REJECTED and not self._reason
        end = End(outcome, self._failed or self._reason or ("ended_early" if early else ""))
        try:
            self._exchange.end(end)
        finally:
            self._observer.ended(self._record(end))

    async def _converse(self, first: Callable[[], Turn], replies: list[Reply]) -> None:
        try:
            turn = first()
            self._count(self._session.held)
            replies += turn.replies
            while turn.ask is not None:
                if isinstance(turn.ask, Waiting) and turn.ask is not _RESUMED:
                    self.waiting = True
                    return
                turn = self._session.answer(await self._ask(turn.ask))
                replies += turn.replies
        except ProtocolError:
            raise
        except ExtProcError as error:
            replies += self._session.answer(self._refuse(error)).replies
        except Exception as error:  # noqa: BLE001 - the one place where a bug of a service is contained
            self._fail("bug", error)
            replies += self._contain().replies

    def _count(self, held: int) -> None:
        change, self._counted = held - self._counted, held
        self._budget.change(change)

    async def _ask(self, question: Question) -> Decision:
        began = self._clock()
        try:
            decision = await self._decide(question)
        finally:
            spent = self._clock() - began
            if isinstance(question, Request | Waiting):
                self._request_seconds += spent
            elif question is not _REVOKED:  # that is the server's time
                self._response_seconds += spent
        if isinstance(decision, Reject):
            self._reason = decision.details or "rejected"
        return decision

    async def _decide(self, question: Question) -> Decision:
        match question:
            case Request():
                return await self._exchange.request(question)
            case Waiting():
                return await self._exchange.waited()
            case Revocation():
                return await self._exchange.revoked()
            case ResponseHead():
                return await self._exchange.response_head(question)
            case ResponseChunk():
                return await self._exchange.response_chunk(question)
            case HeldBody():
                return await self._exchange.response_body(question.data)
            case Overflow():
                return await self._exchange.response_overflow(question.data)
            case Refusal():
                raise question.error

    def _refuse(self, error: ExtProcError) -> Reject:
        self._reason = error.reason
        return self._service.refuse(error, self._session.progress.request)

    def _contain(self) -> Turn:
        if self._service.fail_mode is FailMode.OPEN:
            return self._session.bypass()
        return self._session.answer(self._refuse(Internal("internal error")))

    def _fail(self, reason: str, error: Exception) -> None:
        self._failed = reason
        self._observer.failed(error)

    def _record(self, end: End) -> StreamRecord:
        progress = self._session.progress
        request = progress.request or _UNSEEN
        return StreamRecord(
            outcome=end.outcome,
            reason=end.reason,
            method=request.method,
            path=request.path,
            request_id=request.headers.get("x-request-id") or "",
            status=progress.status,
            seconds=self._clock() - self._began,
            request_seconds=self._request_seconds,
            response_seconds=self._response_seconds,
            request_bytes=progress.request_bytes,
            response_bytes=progress.response_bytes,
            dropped_headers=progress.dropped_headers,
        )


_UNSEEN = Request(Headers())
_RESUMED = Waiting()
_REVOKED = Revocation()
