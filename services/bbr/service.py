"""The body-based router: from a request's body to the headers that routes match, and to its digest."""

from __future__ import annotations

from collections.abc import Mapping

from services.bbr.models import ModelList
from services.bbr.records import Observer, Refusal, RequestRecord, Result
from services.bbr.rules import Resolution, RuleSource
from services.extproc.decisions import Forward, Reject, RequestDecision
from services.extproc.errors import BadRequest, ExtProcError, Internal, NotFound
from services.extproc.events import Request
from services.extproc.exchange import Exchange, FailMode
from services.openai.dialects import Dialect, dialect_of, is_versioned, model_id
from services.openai.digest import KEY, NAMESPACE, digest_of, encode
from services.openai.errors import PeekError, Reason, error_body
from services.openai.peek import Peek, peek, rewrite

MODEL_HEADER = "x-gateway-model-name"
"""The model that the server is asked for, adapters included."""
BASE_MODEL_HEADER = "x-gateway-base-model-name"
"""The base model: what routes match."""

MODEL_CONTEXT = "x-gateway-model"
"""Key of the gRPC initial metadata by which a route names the model that is meant, whatever the body says.

Mirrors and fallbacks use it: their pool may know the model under another name.
"""

_SHOWN = 200  # characters of a client's own text in a message: a model name can be as long as a body


class Bbr:
    """The service: rules in, decisions out. It keeps nothing of a request."""

    name = "bbr"
    fail_mode = FailMode.CLOSED  # unrouted, a request would only meet the route of last resort

    def __init__(self, source: RuleSource, observer: Observer) -> None:
        self._source = source
        self._observer = observer
        self._models = ModelList(source.current())

    def open(self, context: Mapping[str, str]) -> BbrExchange:
        """Start an exchange, for the model that the route names if it does."""
        return BbrExchange(self, context.get(MODEL_CONTEXT, ""))

    def refuse(self, error: ExtProcError, request: Request | None) -> Reject:
        """Put a refusal into the words of the client's dialect."""
        dialect = Dialect.OTHER if request is None else dialect_of(request.method, request.path)
        request_id = (request.headers.get("x-request-id") if request else None) or ""
        body = error_body(
            dialect, error.status, error.message, param=error.param, code=error.code, request_id=request_id
        )
        headers = (("content-type", "application/json"), *error.headers)
        return Reject(error.status, body=body, headers=headers, details=f"bbr_{error.reason}")

    def decide(self, request: Request, named: str = "") -> RequestDecision:
        """Decide on a request; `named` stands in for the body's model. Every decision is reported once."""
        dialect = dialect_of(request.method, request.path)
        try:
            return self._decide(request, dialect, named)
        except _Refused as refused:
            self._report(dialect, Result.REFUSED, reason=refused.reason, field=refused.error.param or "")
            raise refused.error from None

    def _decide(self, request: Request, dialect: Dialect, named: str) -> RequestDecision:
        if dialect is Dialect.MODELS:
            return self._list(request)
        if dialect is Dialect.OTHER:
            return self._pass(request)
        return self._route(request, dialect, named)

    def _list(self, request: Request) -> Reject:
        rules = self._source.current()
        if rules is not self._models.rules:
            self._models = ModelList(rules)
        model = model_id(request.path)
        if (answer := self._models.answer(model)) is None:
            raise _no_model(model)
        self._report(Dialect.MODELS, Result.LISTED)
        return answer

    def _pass(self, request: Request) -> Forward:
        """Let through what other routes may want, without the headers that only BBR sets.

        A body under `/v1` is meant for a model; on a path that no model API has, nothing can route it.
        """
        if request.body != b"" and is_versioned(request.path):
            url = f"{request.method} {request.path}"[:_SHOWN]
            error = NotFound(f"unknown request URL: {url}", reason=Refusal.UNKNOWN_PATH, code="unknown_url")
            raise _Refused(Refusal.UNKNOWN_PATH, error)
        self._report(Dialect.OTHER, Result.PASSED)
        forged = tuple(name for name in (MODEL_HEADER, BASE_MODEL_HEADER) if name in request.headers)
        return Forward(remove_headers=forged, reroute=bool(forged))

    def _route(self, request: Request, dialect: Dialect, named: str) -> Forward:
        body = _readable_body(request)
        try:
            seen = peek(body, dialect, request.headers.get("content-type") or "")
        except PeekError as error:
            bad = BadRequest(error.message, reason=error.reason, param=error.param)
            raise _Refused(error.reason, bad) from error
        way = self._source.current().resolve(named or seen.model)
        if way is None:
            raise _no_model(named or seen.model)
        rewritten = way.target != seen.model
        self._report(dialect, Result.ROUTED, rewritten=rewritten)
        return _forward(body, seen, way, rewritten=rewritten)

    def _report(
        self,
        dialect: Dialect,
        result: Result,
        *,
        rewritten: bool = False,
        reason: Reason | Refusal | None = None,
        field: str = "",
    ) -> None:
        self._observer.request(RequestRecord(dialect, result, rewritten, reason, field))


class BbrExchange(Exchange):
    """One request. The answer passes unseen."""

    def __init__(self, service: Bbr, named: str = "") -> None:
        self._service = service
        self._named = named

    def decides_on_headers(self, request: Request) -> bool:
        """Only a model API's request is worth its body."""
        return dialect_of(request.method, request.path) in {Dialect.MODELS, Dialect.OTHER}

    async def request(self, request: Request) -> RequestDecision:
        """Route, answer, pass or refuse."""
        return self._service.decide(request, self._named)


class _Refused(Exception):
    """A refusal on its way to being reported."""

    def __init__(self, reason: Reason | Refusal, error: ExtProcError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


def _readable_body(request: Request) -> bytes:
    if request.body is None:
        message = "the gateway hides this request's body from its router, so the model cannot be read"
        raise _Refused(Refusal.BODY_NOT_SEEN, Internal(message, reason=Refusal.BODY_NOT_SEEN))
    encoding = request.headers.get("content-encoding") or "identity"
    if encoding.lower() != "identity":
        message = f"content-encoding {encoding[:_SHOWN]!r} is not supported: send the body as it is"
        raise _Refused(Refusal.CONTENT_ENCODING, BadRequest(message, reason=Refusal.CONTENT_ENCODING))
    return request.body


def _no_model(model: str) -> _Refused:
    message = f"the model {model[:_SHOWN]!r} does not exist; GET /v1/models lists those that do"
    return _Refused(
        Refusal.MODEL_NOT_FOUND,
        NotFound(message, reason=Refusal.MODEL_NOT_FOUND, param="model", code="model_not_found"),
    )


def _forward(body: bytes, seen: Peek, way: Resolution, *, rewritten: bool) -> Forward:
    return Forward(
        set_headers=((MODEL_HEADER, way.target), (BASE_MODEL_HEADER, way.base)),
        metadata={NAMESPACE: {KEY: encode(digest_of(seen, way.target))}},
        body=rewrite(body, seen, way.target) if rewritten else None,
        reroute=True,
    )
