"""The picker behind ext_proc: what a request says becomes an `Ask`, and a reservation becomes header and metadata.

Endpoint picker protocol 1.0: the destination goes out as a header and as metadata, equal; the subset hint and the
server that served come in as metadata; 503 when nobody is ready, 429 when shed.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.epp.director import Ask, Director, Reservation
from services.epp.records import Release
from services.epp.scheduling import subset
from services.extproc.decisions import Forward, HeadDecision, Reject, RequestDecision
from services.extproc.errors import BadRequest, ExtProcError
from services.extproc.events import End, Metadata, Outcome, Request, ResponseHead, Value
from services.extproc.exchange import Exchange, FailMode
from services.openai.dialects import Dialect, dialect_of
from services.openai.digest import BOUNDARIES, KEY, NAMESPACE, Digest, DigestError, decode, digest_of
from services.openai.errors import PeekError, error_body
from services.openai.peek import peek

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
LB_NAMESPACE = "envoy.lb"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"
SUBSET = "x-gateway-destination-endpoint-subset"
OWN_NAMESPACE = "gw.epp"
"""Carries `pool` and `decision` to the access log, which brings them back at the end."""
OBJECTIVE = ("x-gateway-inference-objective", "x-llm-d-inference-objective")
MODEL = "x-gateway-model-name"
BASE_MODEL = "x-gateway-base-model-name"
POOL = "x-gateway-pool"
"""Key of the gRPC initial metadata that a route or a weighted cluster sets.

It comes before the key `pool` of the request's own metadata, and that before the name of the route's cluster."""
CLUSTER_ATTRIBUTE = "xds.cluster_name"
CLUSTER_PREFIX = "pool-"

_BODYLESS = frozenset({Dialect.OTHER, Dialect.MODELS})


class PickExchange(Exchange):
    """One request: picked once, followed to its end as far as this stream gets to see it."""

    def __init__(self, director: Director, pool: str) -> None:
        self._director = director
        self._pool = pool
        self._reservation: Reservation | None = None
        self._answered = False

    def decides_on_headers(self, request: Request) -> bool:
        """Do without the body where the digest came as metadata."""
        return request.body is not None or _attached(request.metadata) is not None

    async def request(self, request: Request) -> RequestDecision:
        """Pick, or raise why not."""
        attached = _attached(request.metadata)
        headers = request.headers
        ask = Ask(
            digest=attached or _digest(request),
            pool=self._pool or _pool_of_metadata(request) or _pool_of_cluster(request),
            objective=next((value for name in OBJECTIVE if (value := headers.get(name))), ""),
            base_model=headers.get(BASE_MODEL) or "",
            subset=subset.parse(_hint(request.metadata)),
            headers=headers,
        )
        self._reservation = self._director.pick(ask)
        return _forward(self._reservation, forget_digest=attached is not None)

    async def response_head(self, head: ResponseHead) -> HeadDecision:
        """Take in which server answers."""
        if self._reservation is None:
            return Forward()
        served = head.metadata.get(LB_NAMESPACE, {}).get(SERVED)
        if isinstance(served, str):
            self._director.served(self._reservation.pool.name, self._reservation.id, served)
        self._answered = True
        return Forward(set_headers=self._reservation.answer_headers)

    def end(self, end: End) -> None:
        """Release when this stream knows the end: it followed the answer, or broke off.

        A stream that closes in good order right after the pick knows nothing of the end; the access log tells. One
        that gets the answer's head but not its body closes at the head, so its request counts until the first byte.
        """
        if self._reservation is not None and (self._answered or end.outcome is not Outcome.FORWARDED):
            self._director.release(self._reservation.pool.name, self._reservation.id, Release.RESPONSE)


class EndpointPicker:
    """The service."""

    name = "epp"

    def __init__(self, director: Director, *, fail_mode: FailMode = FailMode.CLOSED) -> None:
        self.fail_mode = fail_mode
        self._director = director

    def open(self, context: Mapping[str, str]) -> PickExchange:
        """Start an exchange for the pool that the stream's initial metadata names, if it does."""
        return PickExchange(self._director, context.get(POOL, ""))

    def refuse(self, error: ExtProcError, request: Request | None) -> Reject:
        """Put a refusal into the client's dialect."""
        dialect = dialect_of(request.method, request.path) if request else Dialect.OTHER
        body = error_body(dialect, error.status, error.message, param=error.param, code=error.code)
        headers = (("content-type", "application/json"), *error.headers)
        return Reject(error.status, body, headers, details=f"epp_{error.reason}")


def _forward(reservation: Reservation, *, forget_digest: bool) -> Forward:
    destination = reservation.addresses
    metadata: dict[str, Mapping[str, Value]] = {
        LB_NAMESPACE: {DESTINATION: destination},
        OWN_NAMESPACE: {"pool": reservation.pool.name, "decision": reservation.id},
    }
    if forget_digest:
        # Some kilobytes that nobody needs any more would come back with every access log entry.
        metadata[NAMESPACE] = {KEY: ""}
    headers = ((DESTINATION, destination), *reservation.decision.headers)
    return Forward(set_headers=headers, metadata=metadata)


def _attached(metadata: Metadata) -> Digest | None:
    """Return the digest that the router in front attached; None without one of a scheme that is known here."""
    text = metadata.get(NAMESPACE, {}).get(KEY)
    if not isinstance(text, str) or not text:
        return None
    try:
        digest = decode(text)
    except DigestError:
        return None
    return digest if len(digest.blocks) <= len(BOUNDARIES) else None


def _digest(request: Request) -> Digest:
    """Compute the digest from the body, where there is one that a known dialect reads; else only the model counts."""
    model = request.headers.get(MODEL) or ""
    dialect = dialect_of(request.method, request.path)
    if not request.body or dialect in _BODYLESS:
        return Digest(model)
    try:
        seen = peek(request.body, dialect, request.headers.get("content-type") or "")
    except PeekError as error:
        raise BadRequest(error.message, reason=error.reason, param=error.param) from error
    return digest_of(seen, model or seen.model)


def _pool_of_metadata(request: Request) -> str:
    """Return what a filter that the route configures, such as `set_metadata`, says of the pool."""
    pool = request.metadata.get(OWN_NAMESPACE, {}).get("pool")
    return pool if isinstance(pool, str) else ""


def _pool_of_cluster(request: Request) -> str:
    cluster = request.attributes.get(CLUSTER_ATTRIBUTE)
    return cluster.removeprefix(CLUSTER_PREFIX) if isinstance(cluster, str) else ""


def _hint(metadata: Metadata) -> Value:
    return metadata.get(SUBSET_NAMESPACE, {}).get(SUBSET)
