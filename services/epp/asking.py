"""What a request says to the director: its digest and pool, whose it is, and how long it is willing to wait."""

from __future__ import annotations

import math

from services.epp.director import Ask
from services.epp.flow.config import seconds
from services.epp.flow.policies import DEFAULT_FLOW
from services.epp.proxies import proxy_name
from services.epp.scheduling import latency, subset
from services.extproc.errors import BadRequest
from services.extproc.events import Headers, Metadata, Request, Value
from services.openai.dialects import Dialect, dialect_of
from services.openai.digest import BOUNDARIES, KEY, NAMESPACE, Digest, DigestError, decode, digest_of
from services.openai.errors import PeekError
from services.openai.exact import KEY as EXACT_KEY
from services.openai.exact import Exact, ExactError
from services.openai.exact import decode as decode_exact
from services.openai.peek import Peek, peek
from services.tokens.source import Ask as TokenAsk

SUBSET_NAMESPACE = "envoy.lb.subset_hint"
SUBSET = "x-gateway-destination-endpoint-subset"
OWN_NAMESPACE = "gw.epp"
"""Carries `pool` and `decision` to the access log, which brings them back at the end."""
OBJECTIVE = ("x-gateway-inference-objective", "x-llm-d-inference-objective")
FAIRNESS = ("x-gateway-inference-fairness-id", "x-llm-d-inference-fairness-id")
TTL_MS = "x-gateway-request-ttl-ms"
TTL = "x-llm-d-inference-ttl"
"""The same with Go's units, as the reference has it."""
FIRST_TOKEN_SLO = ("x-slo-ttft-ms", "x-llm-d-slo-ttft-ms")
MODEL = "x-gateway-model-name"
BASE_MODEL = "x-gateway-base-model-name"
CLUSTER_ATTRIBUTE = "xds.cluster_name"
CLUSTER_PREFIX = "pool-"
NODE_ATTRIBUTE = "xds.node.id"

LONGEST = 9
"""Digits of a time in a header: more is a mistake, and no number that somebody waits for."""

_BODYLESS = frozenset({Dialect.OTHER, Dialect.MODELS})


def ask_of(request: Request, pool: str, digest: Digest, peer: str = "", *, exact: Exact | None = None) -> Ask:
    """Return what `request` asks for, by the pool's name that `pool_of` gives and its digest.

    `peer` is the proxy's address, as gRPC writes it.

    Raises `BadRequest` for a time that is none.
    """
    headers = request.headers
    node = request.attributes.get(NODE_ATTRIBUTE)
    return Ask(
        digest=digest,
        exact=exact,
        pool=pool_of(request, pool),
        objective=first(headers, OBJECTIVE),
        base_model=headers.get(BASE_MODEL) or "",
        subset=subset.parse(_hint(request.metadata)),
        headers=headers,
        fairness=first(headers, FAIRNESS) or DEFAULT_FLOW,
        ttl=_ttl(headers),
        first_token_slo=next(
            (_ms(name, value) for name, value in _given(headers, FIRST_TOKEN_SLO)), math.inf
        ),
        token_slo=latency.wanted(headers, latency.TPOT) or math.inf,
        proxy=proxy_name(peer, node) if isinstance(node, str) else "",
    )


def token_ask(request: Request, ask: Ask) -> TokenAsk | None:
    """Return what has to be known to find the tokens of a prompt that came with its body; None when none did."""
    digest, dialect = ask.digest, dialect_of(request.method, request.path)
    if not request.body or not digest.blocks:
        return None
    seen = peek(request.body, dialect, request.headers.get("content-type") or "")
    adapter = digest.model if ask.base_model and ask.base_model != digest.model else ""
    return TokenAsk(request.body, dialect, seen, digest, adapter)


def attached(metadata: Metadata) -> Digest | None:
    """Return the digest that the router in front attached; None without one of a scheme that is known here."""
    text = metadata.get(NAMESPACE, {}).get(KEY)
    if not isinstance(text, str) or not text:
        return None
    try:
        digest = decode(text)
    except DigestError:
        return None
    return digest if len(digest.blocks) <= len(BOUNDARIES) else None


def attached_exact(metadata: Metadata) -> Exact | None:
    """Return the digest's prompt in tokens, where the router attached that too."""
    text = metadata.get(NAMESPACE, {}).get(EXACT_KEY)
    try:
        return decode_exact(text) if isinstance(text, str) and text else None
    except ExactError:
        return None


def read(request: Request) -> Peek | None:
    """Read the body, where there is one of a known dialect; raise `BadRequest` for one that cannot be read."""
    dialect = dialect_of(request.method, request.path)
    if not request.body or dialect in _BODYLESS:
        return None
    try:
        return peek(request.body, dialect, request.headers.get("content-type") or "")
    except PeekError as error:
        raise BadRequest(error.message, reason=error.reason, param=error.param) from error


def digest_from(request: Request, seen: Peek | None, target: str = "") -> Digest:
    """Compute the digest from the body; without one only the model counts. `target`: what a rewrite made of the model."""
    model = target or request.headers.get(MODEL) or ""
    return Digest(model) if seen is None else digest_of(seen, model or seen.model)


def pool_of(request: Request, pool: str) -> str:
    """Return the pool that is meant: `pool`, which the stream's own metadata names, the route's, or the cluster's."""
    return pool or _pool_of_metadata(request) or _pool_of_cluster(request)


def first(headers: Headers, names: tuple[str, ...]) -> str:
    """Return the first of the headers `names` that is there; empty without one."""
    return next((value for _, value in _given(headers, names)), "")


def _pool_of_metadata(request: Request) -> str:
    """Return what a filter that the route configures, such as `set_metadata`, says of the pool."""
    pool = request.metadata.get(OWN_NAMESPACE, {}).get("pool")
    return pool if isinstance(pool, str) else ""


def _pool_of_cluster(request: Request) -> str:
    cluster = request.attributes.get(CLUSTER_ATTRIBUTE)
    return cluster.removeprefix(CLUSTER_PREFIX) if isinstance(cluster, str) else ""


def _hint(metadata: Metadata) -> Value:
    return metadata.get(SUBSET_NAMESPACE, {}).get(SUBSET)


def _given(headers: Headers, names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, value) for name in names if (value := headers.get(name))]


def _ttl(headers: Headers) -> float | None:
    """Return how long the client is willing to wait, in seconds; None when it does not say."""
    if (value := headers.get(TTL_MS)) is not None:
        return _ms(TTL_MS, value)
    if (value := headers.get(TTL)) is None:
        return None
    try:
        return seconds(value)
    except ValueError as error:
        raise BadRequest(f"{TTL}: {error}", reason="header_invalid", param=TTL) from error


def _ms(name: str, value: str) -> float:
    if not (value.isascii() and value.isdecimal() and len(value) <= LONGEST):
        raise BadRequest(
            f"{name}: expected milliseconds like 1500, got {value[:40]!r}",
            reason="header_invalid",
            param=name,
        )
    return int(value) / 1000
