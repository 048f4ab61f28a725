"""The safety service: the policy of a request's model judges its prompt, and later its answer."""

from __future__ import annotations

from collections.abc import Mapping

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
from services.openai.edits import replace_values
from services.openai.texts import Undecodable, decode, walk
from services.safety import refusal
from services.safety.audit import Observer, Record, text_hash
from services.safety.holdback import LIMIT
from services.safety.judge import UNDECODABLE, UNSCANNABLE, Tally, judge, without_logprobs
from services.safety.policy import Policies, Policy, Side
from services.safety.prompt import is_encoded, judge_prompt, media_type
from services.safety.providers.base import Context, Provider
from services.safety.stream import StreamFilter
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
    ) -> None:
        self.policies = policies
        self.observer = observer
        self.audit_key = audit_key
        self.providers = providers or {}

    def open(self, context: Mapping[str, str]) -> SafetyExchange:
        """Start an exchange."""
        return SafetyExchange(self, context.get(POLICY_CONTEXT))

    def refuse(self, error: ExtProcError, request: Request | None) -> Reject:
        """Put a refusal into the words of the client's dialect."""
        dialect = Dialect.OTHER if request is None else dialect_of(request.method, request.path)
        return refusal.of_error(dialect, error)


class SafetyExchange(Exchange):
    """One request and its answer under one policy."""

    def __init__(self, service: Safety, route_policy: str | None) -> None:
        self._service = service
        self._route_policy = route_policy
        self._policy: Policy | None = None
        self._dialect = Dialect.OTHER
        self._model = ""
        self._request_id = ""
        self._stream: StreamFilter | None = None
        self._tally = Tally()  # of the answer

    def decides_on_headers(self, request: Request) -> bool:
        """Spare the body of a prompt that nobody judges."""
        return self._choose(request).prompt.idle

    async def request(self, request: Request) -> RequestDecision:
        """Judge the prompt."""
        policy = self._choose(request)
        self._dialect = dialect_of(request.method, request.path)
        self._request_id = request.headers.get("x-request-id") or ""
        # An answer that will be judged must come as it is: nobody may compress it on its way here.
        plain = () if policy.response.idle else ("accept-encoding",)
        if policy.prompt.idle or request.body == b"":
            return Forward(remove_headers=plain)
        tally = Tally()
        context = Context(Direction.PROMPT, self._model, policy.name, self._request_id)
        body = await judge_prompt(request, policy.prompt, self._service.providers, context, tally)
        self._report(Direction.PROMPT, tally, request.body or b"")
        if tally.block:
            return refusal.of_prompt(self._dialect, policy.prompt, tally.block)
        return Forward(remove_headers=plain, body=body)

    async def response_head(self, head: ResponseHead) -> HeadDecision:
        """Decide who sees the answer. Refusals, errors and Envoy's own answers pass: they hold no model's words."""
        if not head.request_seen or self._policy is None or head.status >= _FIRST_ERROR or head.end:
            return Forward()
        side = self._policy.response
        if side.idle:
            return Forward()
        kind = media_type(head.headers)
        if is_encoded(head.headers):
            return self._unscannable(side, "encoded")
        if kind == "text/event-stream":
            self._stream = StreamFilter(side, self._tally)
            return Stream(Forward(remove_headers=("content-length",)))
        if kind == "application/json" or kind.endswith("+json"):
            return Hold()
        return self._unscannable(side, "content_type")

    async def response_chunk(self, chunk: ResponseChunk) -> Emit:
        """Filter a piece of a streamed answer."""
        if self._stream is None:
            return Emit(chunk.data)
        out = self._stream.feed(chunk.data, end=chunk.end)
        return Emit(out, end=self._stream.ended)

    async def response_body(self, body: bytes) -> BodyDecision:
        """Judge a whole answer."""
        side = self._side()
        try:
            document = decode(body)
            texts = walk(document, "assistant", labels=True)
        except Undecodable:
            return self._not_judged(side, body, UNDECODABLE)
        edits = judge(texts, side, self._tally)
        if edits and side.drop_logprobs:
            edits |= without_logprobs(texts, document)
        return self._answer(side, body, replace_values(body, edits) if edits else None)

    async def response_overflow(self, held: bytes) -> Forward | Reject:
        """Decide on an answer that is too long to hold."""
        return self._not_judged(self._side(), held, LIMIT)

    def end(self, end: End) -> None:  # noqa: ARG002 - a stream is reported however it ended
        """Report a streamed answer."""
        if self._stream is not None:
            self._report(Direction.RESPONSE, self._tally, b"", held=self._stream.most_held)

    def _choose(self, request: Request) -> Policy:
        if self._policy is None:
            self._model = request.headers.get(MODEL_HEADER) or ""
            try:
                self._policy = self._service.policies.choose(self._model, self._route_policy)
            except LookupError as error:
                message = "the route names a safety policy that does not exist"
                raise Internal(message, reason="unknown_policy") from error
        return self._policy

    def _side(self) -> Side:
        if self._policy is None:
            raise RuntimeError("an answer is judged only after its request")
        return self._policy.response

    def _unscannable(self, side: Side, why: str) -> Forward | Reject:
        self._tally.skip(why, 0)
        if not side.allow_unscannable:
            self._tally.block = UNSCANNABLE
        return self._answer(side, b"", None)

    def _not_judged(self, side: Side, body: bytes, why: str) -> Forward | Reject:
        self._tally.skip(why, len(body), State.LIMIT if why == LIMIT else State.SKIPPED)
        if not side.fail_open:
            self._tally.block = why
        return self._answer(side, body, None)

    def _answer(self, side: Side, body: bytes, changed: bytes | None) -> Forward | Reject:
        self._report(Direction.RESPONSE, self._tally, body)
        if self._tally.block:
            return refusal.of_answer(self._dialect, side, self._tally.block)
        return Forward(body=changed)

    def _report(self, direction: Direction, tally: Tally, body: bytes, held: int | None = None) -> None:
        verdict = tally.verdict()
        digest = text_hash(self._service.audit_key, body) if verdict.findings and body else ""
        policy = self._policy.name if self._policy else ""
        self._service.observer.verdict(
            Record(
                direction, verdict, policy, self._model, self._request_id, digest, held, tuple(tally.reported)
            )
        )
