"""The body-based router: from a request's body to the headers that routes match, and to its digest."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from services.bbr.answers import AnswerExchange
from services.bbr.chain import Chain
from services.bbr.models import ModelList
from services.bbr.records import OTHER_NAME, Observer, RequestRecord, Result, Rewriting
from services.bbr.refusals import Refused, no_model, unknown_path
from services.bbr.routing import (
    OWN_HEADERS,
    Routed,
    consumer,
    forward,
    permitted,
    read,
    resolve,
    token_ask,
)
from services.bbr.rules import Rules, RuleSource
from services.bbr.sources import PATH
from services.extproc.decisions import Forward, Reject, RequestDecision
from services.extproc.errors import ExtProcError
from services.extproc.events import Request
from services.extproc.exchange import FailMode
from services.openai.dialects import Dialect, dialect_of, is_versioned, model_id, path_model
from services.openai.digest import NAMESPACE
from services.openai.errors import error_body
from services.openai.exact import KEY as EXACT_KEY
from services.openai.exact import encode
from services.tokens.source import Tokens

MODEL_CONTEXT = "x-gateway-model"
"""Key of the gRPC initial metadata by which a route names the model that is meant, whatever the request says.

Mirrors and fallbacks use it: their pool may know the model under another name. The request has passed BBR before, so
access and plugins are not asked again.
"""

ANSWER_LIMIT = 16 * 1024 * 1024
"""Bytes of a plain answer that are held for renaming; longer ones pass with the server's name."""


class Bbr:
    """The service: rules in, decisions out. It keeps nothing of a request. `chance` splits what is not sticky."""

    name = "bbr"
    fail_mode = FailMode.CLOSED  # unrouted, a request would only meet the route of last resort

    def __init__(
        self,
        source: RuleSource,
        observer: Observer,
        *,
        chance: random.Random,
        chain: Chain | None = None,
        answer_limit: int = ANSWER_LIMIT,
        tokens: Mapping[str, Tokens] | None = None,
    ) -> None:
        """`tokens`: by base model, where prompts are known in tokens."""
        self._source = source
        self._observer = observer
        self._chance = chance
        self._chain = chain
        self._answer_limit = answer_limit
        self._tokens = tokens or {}
        self._models = ModelList(source.current())

    def open(self, context: Mapping[str, str]) -> BbrExchange:
        """Start an exchange, for the model that the route names if it does."""
        return BbrExchange(self, context.get(MODEL_CONTEXT, ""), self._chain, limit=self._answer_limit)

    def refuse(self, error: ExtProcError, request: Request | None) -> Reject:
        """Put a refusal into the words of the client's dialect."""
        dialect = Dialect.OTHER if request is None else dialect_of(request.method, request.path)
        request_id = (request.headers.get("x-request-id") if request else None) or ""
        body = error_body(
            dialect, error.status, error.message, param=error.param, code=error.code, request_id=request_id
        )
        headers = (("content-type", "application/json"), *error.headers)
        return Reject(error.status, body=body, headers=headers, details=f"bbr_{error.reason}")

    def decides_on_headers(self, request: Request) -> bool:
        """Say whether `request` needs no body to be decided: only a body that can name a model is worth waiting for."""
        dialect = dialect_of(request.method, request.path)
        if dialect is not Dialect.OTHER or PATH not in self._source.current().sources:
            return dialect in {Dialect.MODELS, Dialect.OTHER}
        return path_model(request.method, request.path) is None

    def decide(self, request: Request, route_model: str = "") -> RequestDecision:
        """Decide on a request; every decision is reported once."""
        return self.consider(request, route_model)[0]

    def consider(self, request: Request, route_model: str = "") -> tuple[RequestDecision, Routed | None]:
        """Decide, and say how the request was routed if it was."""
        dialect = dialect_of(request.method, request.path)
        size = len(request.body or b"")
        rules = self._source.current()
        try:
            if dialect is Dialect.MODELS:
                return self._list(request, rules), None
            routed = self._route(request, dialect, rules, route_model)
            if routed is None:
                return self._pass(request), None
            decision = forward(routed)
        except Refused as refused:
            error = refused.error
            self._observer.request(
                RequestRecord(
                    dialect, Result.REFUSED, reason=refused.reason, field=error.param or "", body_bytes=size
                )
            )
            raise error from None
        self._observer.request(_record(routed, size))
        return decision, routed

    async def with_tokens(self, decision: Forward, routed: Routed) -> Forward:
        """Add to the digest what is known of the prompt in tokens, where the configuration says how to know."""
        tokens = self._tokens.get(routed.way.base)
        if tokens is None:
            return decision
        exact = await tokens.exact(token_ask(routed))
        if exact is None:
            return decision
        values = {**decision.metadata[NAMESPACE], EXACT_KEY: encode(exact)}
        return replace(decision, metadata={**decision.metadata, NAMESPACE: values})

    def _list(self, request: Request, rules: Rules) -> Reject:
        if rules is not self._models.rules:
            self._models = ModelList(rules)
        model = model_id(request.path)
        if (answer := self._models.answer(model, consumer(request, rules))) is None:
            raise no_model(model)
        self._observer.request(RequestRecord(Dialect.MODELS, Result.LISTED))
        return answer

    def _route(self, request: Request, dialect: Dialect, rules: Rules, route_model: str) -> Routed | None:
        reading = read(request, dialect, rules, route_model)
        if reading is None:
            return None
        way = resolve(reading.asked, reading, rules, self._chance)
        routed = Routed(reading, way, rules, self._chance)
        if route_model:
            return routed
        permitted(reading, rules)
        return self._chain.request(routed) if self._chain else routed

    def _pass(self, request: Request) -> Forward:
        """Let through what other routes may want, without the headers that only BBR sets.

        A body under `/v1` is meant for a model; on a path that no model API has, nothing can route it.
        """
        if request.body != b"" and is_versioned(request.path):
            raise unknown_path(request.method, request.path)
        self._observer.request(
            RequestRecord(Dialect.OTHER, Result.PASSED, body_bytes=len(request.body or b""))
        )
        forged = tuple(name for name in OWN_HEADERS if name in request.headers)
        return Forward(remove_headers=forged, reroute=bool(forged))


class BbrExchange(AnswerExchange):
    """One request, or one answer, or both: as the filter sends them."""

    def __init__(self, service: Bbr, route_model: str, chain: Chain | None, *, limit: int) -> None:
        super().__init__(chain, limit=limit)
        self._service = service
        self._route_model = route_model

    def decides_on_headers(self, request: Request) -> bool:
        """Only a body that can name a model is waited for."""
        return self._service.decides_on_headers(request)

    async def request(self, request: Request) -> RequestDecision:
        """Route, answer, pass or refuse."""
        decision, routed = self._service.consider(request, self._route_model)
        if isinstance(decision, Forward):
            self.names = decision.metadata
            if routed is not None:
                return await self._service.with_tokens(decision, routed)
        return decision


def _record(routed: Routed, size: int) -> RequestRecord:
    reading, way = routed.reading, routed.way
    rewriting = None
    if way.rule:
        known = reading.asked in routed.rules.ways
        rewriting = Rewriting(way.rule, reading.asked if known else OTHER_NAME, way.target)
    return RequestRecord(
        reading.dialect, Result.ROUTED, routed.rewritten, body_bytes=size, rewriting=rewriting
    )
