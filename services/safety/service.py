"""The safety service: the policy of a request's model judges its prompt, and later its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from services.extproc.decisions import (
    BodyDecision,
    Emit,
    Forward,
    HeadDecision,
    Hold,
    Reject,
    RequestDecision,
    Stream,
)
from services.extproc.errors import ExtProcError, Internal
from services.extproc.events import End, Request, ResponseChunk, ResponseHead
from services.extproc.exchange import Exchange, FailMode
from services.openai.dialects import Dialect, dialect_of
from services.openai.texts import Json, Path, Text
from services.safety import refusal
from services.safety.answer import Ask, StreamedAnswer
from services.safety.audit import Observer, Record, text_hash
from services.safety.encoded import is_readable
from services.safety.holdback import LIMIT
from services.safety.judge import UNSCANNABLE, Tally
from services.safety.masks import Vault
from services.safety.policy import Policies, Policy, Side, StreamMode
from services.safety.prompt import encoding_of, judge_answer, judge_prompt, media_type, model_of
from services.safety.providers.base import Context, Provider
from services.safety.remote import ask, merge
from services.safety.shadow import Shadow, Shadows
from services.safety.usage import Toll
from services.safety.verdict import Direction, State

MODEL_HEADER = "x-gateway-model-name"
POLICY_CONTEXT = "x-safety-policy"
"""gRPC initial metadata by which a route chooses a policy."""

_FIRST_ERROR = 400


class Safety:
    """The service: policies in, decisions out."""

    name = "safety"
    fail_mode = FailMode.CLOSED  # what was not judged must not pass for clean

    def __init__(
        self,
        policies: Policies,
        observer: Observer,
        audit_key: bytes,
        providers: Mapping[str, Provider] | None = None,
        *,
        nonce: Callable[[], str] = lambda: "",
        shadows: Shadows | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policies = policies
        self.observer = observer
        self.audit_key = audit_key
        self.providers = providers or {}
        self.nonce = nonce
        self.shadows = shadows or Shadows()
        self.clock = clock

    def open(self, context: Mapping[str, str]) -> SafetyExchange:
        """Start an exchange."""
        return SafetyExchange(self, context.get(POLICY_CONTEXT))

    def refuse(self, error: ExtProcError, request: Request | None) -> Reject:
        """Put a refusal into the words of the client's dialect."""
        dialect = Dialect.OTHER if request is None else dialect_of(request.method, request.path)
        return refusal.of_error(dialect, error, "" if request is None else _request_id(request))


class SafetyExchange(Exchange):
    """One request and its answer under one policy, and under its shadow."""

    def __init__(self, service: Safety, route_policy: str | None) -> None:
        self._service = service
        self._policies = service.policies
        self._providers = service.providers  # both as they are now: a reload is for the next exchange
        self._route_policy = route_policy
        self._policy: Policy | None = None
        self._dialect = Dialect.OTHER
        self._model = ""
        self._request_id = ""
        self._vault = Vault(service.nonce)
        self._answer_side: Side | None = None  # bound to the prompt
        self._encoding = ""  # of the answer
        self._stream: StreamedAnswer | None = None
        self._tally = self._new_tally()  # of the answer
        self._shadow: Shadow | None = None
        self._toll: Toll | None = None

    def decides_on_headers(self, request: Request) -> bool:
        """Spare the body of a prompt that nobody judges, unless it is needed to know whose it is."""
        if request.body is None and self._model_in_body(request):
            return False
        policy = self._choose(request)
        return _needs_no_prompt(policy) and (self._shadow is None or _needs_no_prompt(self._shadow.policy))

    async def request(self, request: Request) -> RequestDecision:
        """Judge the prompt."""
        policy = self._choose(request)
        self._dialect = dialect_of(request.method, request.path)
        self._request_id = _request_id(request)
        if request.body == b"" or self.decides_on_headers(request):
            return Forward(remove_headers=self._plain())
        tally = self._new_tally()
        body = await judge_prompt(
            request, policy.prompt, self._asker(Direction.PROMPT, policy.prompt, tally), tally
        )
        self._answer_side = policy.response.bound(tally.prompt)
        record = self._report(Direction.PROMPT, tally, request.body or b"")
        if self._shadow is not None:
            self._shadow.prompt(request, self._asker, record)
        if tally.block:
            return refusal.of_prompt(self._dialect, policy.prompt, tally.block, self._request_id)
        return Forward(remove_headers=self._plain(), body=body)

    async def response_head(self, head: ResponseHead) -> HeadDecision:
        """Decide who sees the answer. Refusals, errors and Envoy's own answers pass: they hold no model's words."""
        if not head.request_seen or self._policy is None or head.status >= _FIRST_ERROR or head.end:
            return Forward()
        side = self._side()
        if side.idle and (self._shadow is None or self._shadow.policy.response.idle):
            return Forward()
        kind, self._encoding = media_type(head.headers), encoding_of(head.headers)
        is_json = kind == "application/json" or kind.endswith("+json")
        if self._encoding and not (is_json and is_readable(self._encoding)):
            return self._unscannable(side, "encoded")
        if kind == "text/event-stream":
            self._stream = StreamedAnswer(
                side, self._tally, self._asker(Direction.RESPONSE, side, self._tally)
            )
            self._toll = Toll(self._service.clock(), stream=True)
            return Stream(Forward(remove_headers=("content-length",)))
        if is_json:
            return Hold()
        return self._unscannable(side, "content_type")

    async def response_chunk(self, chunk: ResponseChunk) -> Emit:
        """Filter a piece of a streamed answer."""
        if self._stream is None:
            return Emit(chunk.data)
        out = await self._stream.feed(chunk.data, end=chunk.end)
        if self._shadow is not None:
            self._shadow.feed(chunk.data)
        ended = self._stream.ended
        told = (
            self._toll.feed(chunk.data, self._service.clock(), end=chunk.end or ended) if self._toll else {}
        )
        return Emit(out, end=ended, metadata=told)

    async def response_body(self, body: bytes) -> BodyDecision:
        """Judge a whole answer."""
        side = self._side()
        changed = await judge_answer(
            body, side, self._asker(Direction.RESPONSE, side, self._tally), self._tally, self._encoding
        )
        decision = self._answer(side, body, changed)
        if isinstance(decision, Reject) or self._encoding:
            return decision
        return replace(decision, metadata=Toll(0.0, stream=False).feed(body, 0.0, end=True))

    async def response_overflow(self, held: bytes) -> Forward | Reject:
        """Decide on an answer that is too long to hold."""
        self._tally.not_judged(LIMIT, len(held), self._side(), State.LIMIT)
        return self._answer(self._side(), held, None, read=False)

    def end(self, end: End) -> None:  # noqa: ARG002 - a stream is reported however it ended
        """Report a streamed answer."""
        if self._stream is not None:
            enforced = self._side().stream is not StreamMode.AUDIT
            held = self._stream.most_held
            record = self._report(Direction.RESPONSE, self._tally, b"", held=held, enforced=enforced)
            if self._shadow is not None:
                self._shadow.streamed(self._asker, record)

    def _model_in_body(self, request: Request) -> bool:
        """Whether the policy depends on a model that only the body names: no router stands in front."""
        named = self._route_policy or request.headers.get(MODEL_HEADER)
        return not named and bool(self._policies.by_model)

    def _choose(self, request: Request) -> Policy:
        if self._policy is None:
            headers = request.headers
            self._model = headers.get(MODEL_HEADER) or model_of(request)
            consumer = headers.get(self._policies.consumer_header) if self._policies.consumer_header else None
            try:
                self._policy = self._policies.choose(self._model, self._route_policy, consumer)
            except LookupError as error:
                message = "the route names a safety policy that does not exist"
                raise Internal(message, reason="unknown_policy") from error
            if (candidate := self._policies.shadow(self._policy)) is not None:
                service = self._service
                self._shadow = Shadow(
                    candidate, lambda: Tally(key=service.audit_key), service.shadows, service.observer
                )
        return self._policy

    def _new_tally(self) -> Tally:
        return Tally(key=self._service.audit_key, vault=self._vault)

    def _side(self) -> Side:
        """Return the answer's side; it gives back what placeholders stand for, where the prompt has some."""
        if self._policy is None:
            raise RuntimeError("an answer is judged only after its request")
        side = self._answer_side or self._policy.response.bound(())
        return replace(side, checks=(*side.checks, self._vault)) if self._vault else side

    def _plain(self) -> tuple[str, ...]:
        """Return the header to remove: an answer that is judged must come as it is, compressed by nobody."""
        idle = self._side().idle and (self._shadow is None or self._shadow.policy.response.idle)
        return () if idle else ("accept-encoding",)

    def _asker(self, direction: Direction, side: Side, tally: Tally) -> Ask:
        policy = self._policy.name if self._policy else ""
        context = Context(direction, self._model, policy, self._request_id)

        async def asked(texts: Sequence[Text], final: bool) -> Mapping[Path, Json]:
            known = replace(context, final=final)
            return merge(await ask(self._providers, side, texts, known), texts, side, tally)

        return asked

    def _unscannable(self, side: Side, why: str) -> Forward | Reject:
        self._tally.skip(why, 0)
        if not side.allow_unscannable:
            self._tally.block = UNSCANNABLE
        return self._answer(side, b"", None, read=False)

    def _answer(
        self, side: Side, body: bytes, changed: bytes | None, *, read: bool = True
    ) -> Forward | Reject:
        record = self._report(Direction.RESPONSE, self._tally, body)
        if self._shadow is not None:
            self._shadow.answer(body if read else None, self._encoding, self._asker, record)
        if self._tally.block:
            return refusal.of_answer(self._dialect, side, self._tally.block, self._request_id)
        return Forward(body=changed)

    def _report(
        self,
        direction: Direction,
        tally: Tally,
        body: bytes,
        *,
        held: int | None = None,
        enforced: bool = True,
    ) -> Record:
        verdict = tally.verdict()
        digest = text_hash(self._service.audit_key, body) if verdict.findings and body else ""
        record = Record(
            direction,
            verdict,
            self._policy.name if self._policy else "",
            self._model,
            self._request_id,
            digest,
            held,
            tuple(tally.reported),
            enforced,
        )
        self._service.observer.verdict(record)
        return record


def _needs_no_prompt(policy: Policy) -> bool:
    return policy.prompt.idle and not policy.response.prompt_checks


def _request_id(request: Request) -> str:
    return request.headers.get("x-request-id") or ""
