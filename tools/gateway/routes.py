"""`config/routes.yaml`: what Envoy does with a request, as strict values. Knows nothing of Envoy's API."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from tools.gateway.conditions import HeaderCondition, HeaderName, Method, PathCondition

MIB = 1024 * 1024

CONTROL_PREFIXES = ("x-gateway-", "x-llm-d-", "x-slo-")
"""Header names that steer the gateway. A client's own are removed at the edge unless they are trusted."""

NEVER_TRUSTED = (
    "x-gateway-base-model-name",
    "x-gateway-destination-",
    "x-gateway-model-name",
    "x-llm-d-model-name-",
    "x-llm-d-request-dropped-reason",
)
"""Prefixes of what only the services may say: whoever sets these chooses the model or the server."""

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
Bytes = Annotated[int, Meta(ge=1024, le=1024 * MIB)]
Name = Annotated[str, Meta(pattern="^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=63)]
"""A pool's name becomes part of a cluster name, a file name and a metric label."""
Model = Annotated[str, Meta(min_length=1, max_length=256)]


class Share(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pool and its part of a route's requests."""

    pool: Name
    weight: Positive = 1


class Fallback(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a request goes that the pools before this one did not begin to answer."""

    pool: Name
    model: Model | None = None
    """What this pool's servers are asked for, when it is not what the others are."""


class Mirror(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pool that gets a copy of some requests. Its answers are thrown away."""

    pool: Name
    percent: Annotated[float, Meta(gt=0, le=100)]
    """Of the route's requests."""
    model: Model | None = None
    """What this pool's servers are asked for, when it is not what the others are."""


class Route(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where requests go that fit all of its conditions."""

    name: str = ""
    """Envoy's name for the route; the model where absent."""
    base_model: str | None = None
    """The model and all its adapters."""
    model: str | None = None
    """This name alone, such as one adapter."""
    path: PathCondition | None = None
    methods: tuple[Method, ...] = ()
    headers: tuple[HeaderCondition, ...] = ()
    pools: Annotated[tuple[Share, ...], Meta(min_length=1)]
    fallbacks: Annotated[tuple[Fallback, ...], Meta(max_length=8)] = ()
    """Tried in this order while no byte of an answer has come."""
    mirrors: Annotated[tuple[Mirror, ...], Meta(max_length=8)] = ()
    attempts: Positive = 3
    """Endpoints of the EPP's list that are tried; only while no byte of an answer has come."""
    first_byte_seconds: Seconds | None = None
    """How long one endpoint may take until its answer begins; over it 504, or the next fallback."""
    idle_timeout_seconds: Seconds = 300
    """Silence between two pieces of an answer; must exceed the worst time to the first token."""
    max_duration_seconds: Seconds = 3600
    body_limit: Bytes | None = None
    """In bytes, of a route without a model; the file's `body_limit` where absent. Elsewhere the path's counts."""
    check_answers: bool = True
    """False takes safety off the answer's path, for models whose policy looks at prompts only."""
    read_body: bool = True
    """False takes BBR off a route without a model, for requests that carry no model."""

    def __post_init__(self) -> None:
        if self.base_model is not None and self.model is not None:
            raise ValueError("a route names either `base_model` or `model`")
        if not self.names_model:
            self._check_without_model()
        elif self.body_limit is not None or not self.read_body:
            raise ValueError("`body_limit` and `read_body` belong to routes without a model")
        pools = [share.pool for share in self.pools]
        if len(set(pools)) < len(pools):
            raise ValueError(f"a pool is named twice: {', '.join(pools)}")
        if self.first_byte_seconds is not None and self.first_byte_seconds > self.idle_timeout_seconds:
            raise ValueError("`first_byte_seconds` is above `idle_timeout_seconds`")
        force_setattr(self, "name", self.name or self.model or self.base_model)

    def _check_without_model(self) -> None:
        """Such a route is open to every request: it must say to which, or all of a server would be behind it."""
        if self.path is None or not self.name:
            raise ValueError("a route names a `base_model` or a `model`, or else a `path` and its own `name`")
        if self.mirrors or self.fallbacks:
            raise ValueError("`mirrors` and `fallbacks` belong to routes with a model")

    @property
    def names_model(self) -> bool:
        """Whether it matches after BBR only."""
        return self.base_model is not None or self.model is not None

    @property
    def is_open(self) -> bool:
        """Whether the model is its only condition."""
        return self.names_model and self.path is None and not self.methods and not self.headers

    @property
    def has_legs(self) -> bool:
        """Whether a request may go to more than one pool, each with a pick of its own."""
        return bool(self.fallbacks or self.mirrors)

    @property
    def all_pools(self) -> tuple[str, ...]:
        """Every pool that it names."""
        named: tuple[Share | Fallback | Mirror, ...] = (*self.pools, *self.fallbacks, *self.mirrors)
        return tuple(entry.pool for entry in named)


class PoolLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Circuit breakers: what Envoy lets be in flight to a pool. Beyond it 503, or the next fallback."""

    max_requests: Positive = 20000
    """Being answered, or waiting for a connection; a streamed answer counts until its end."""
    max_connections: Positive = 20000
    """Servers speak HTTP/1.1, so one for each request in flight."""
    max_pending: Positive = 20000
    """Waiting for a connection."""
    connect_timeout_seconds: Seconds = 1


class Path(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An API path that is served. Exactly one of `path` and `prefix` is set."""

    path: str | None = None
    prefix: str | None = None
    body_limit: Bytes | None = None
    """In bytes; the file's `body_limit` where absent."""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.prefix is None):
            raise ValueError("an entry names either `path` or `prefix`")
        if not self.value.startswith("/"):
            raise ValueError(f"a path starts with a slash: {self.value}")

    @property
    def value(self) -> str:
        """The path or prefix, whichever it is."""
        return self.path or self.prefix or ""


class Edge(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is believed of a client."""

    trusted_headers: tuple[str, ...] = ()
    """Control headers that clients may set. None of them by default."""

    def __post_init__(self) -> None:
        for name in self.trusted_headers:
            if not name.startswith(CONTROL_PREFIXES):
                raise ValueError(
                    f"{name} is no control header; those start with {', '.join(CONTROL_PREFIXES)}"
                )
            if name.startswith(NEVER_TRUSTED):
                raise ValueError(f"{name} is set by the services and never taken from a client")


class ServiceCall(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How Envoy calls one of the services."""

    timeout_seconds: Seconds = 2
    """For each message that needs a reply."""
    max_timeout_seconds: Seconds | None = None
    """Up to which the service may ask for more time."""
    fail_open: bool = False
    """True lets requests pass unprocessed while the service is away."""

    def __post_init__(self) -> None:
        if self.max_timeout_seconds is not None and self.max_timeout_seconds < self.timeout_seconds:
            raise ValueError("`max_timeout_seconds` is below `timeout_seconds`")


class BbrCall(ServiceCall, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How Envoy calls BBR, and what BBR's plugins get from it."""

    headers: tuple[HeaderName, ...] = ()
    """Request headers that plugins may set or remove, beside the gateway's own."""
    answer_headers: tuple[HeaderName, ...] = ()
    """The same for answers."""
    answers: Literal["renamed", "all"] = "renamed"
    """Which answers BBR sees: of requests that it renamed, or of all with a model, for response plugins."""


class EppCall(ServiceCall, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How Envoy calls the EPP."""

    evictable: bool = False
    """The EPP's stream stays open until the answer's head, so that it can take a request back (`enableEviction`)."""


class Services(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The three services, in the order in which a request meets them."""

    bbr: BbrCall = BbrCall(timeout_seconds=2)
    safety: ServiceCall = ServiceCall(timeout_seconds=5, max_timeout_seconds=30)
    epp: EppCall = EppCall(timeout_seconds=2, max_timeout_seconds=60)

    def __post_init__(self) -> None:
        if self.bbr.fail_open:
            raise ValueError("bbr cannot fail open: without the model there is no route to take")


class Routes(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file as a whole."""

    default_body_limit: ClassVar[int] = 16 * MIB

    routes: Annotated[tuple[Route, ...], Meta(min_length=1)]
    """The first that matches decides."""
    paths: tuple[Path, ...] = (Path(prefix="/v1/"),)
    """What is served, first match first; any other path is a 404 that no service sees."""
    denied_paths: tuple[str, ...] = ()
    """Refused with 404 although an entry of `paths` covers them."""
    body_limit: Bytes = default_body_limit
    pool_limits: dict[Name, PoolLimits] = field(default_factory=dict)
    """By pool, where they are not the default."""
    edge: Edge = field(default_factory=Edge)
    services: Services = field(default_factory=Services)

    def __post_init__(self) -> None:
        names = [route.name for route in self.routes]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two routes named {twice[0]}: give one of them a `name`")
        for number, route in enumerate(self.routes):
            for earlier in self.routes[:number]:
                if earlier.is_open and (earlier.model, earlier.base_model) == (route.model, route.base_model):
                    raise ValueError(f"the route {route.name} is never reached: {earlier.name} comes first")
        if unused := [name for name in self.pool_limits if name not in self.pools]:
            raise ValueError(f"limits for the pool {unused[0]}, which no route names")

    @property
    def pools(self) -> tuple[str, ...]:
        """Every pool that a route names, in order and once."""
        return tuple(dict.fromkeys(pool for route in self.routes for pool in route.all_pools))

    def limits(self, pool: str) -> PoolLimits:
        """Return the circuit breakers of `pool`."""
        return self.pool_limits.get(pool, PoolLimits())

    def limit(self, path: Path) -> int:
        """Bytes of body that `path` accepts."""
        return path.body_limit or self.body_limit

    @property
    def largest_body(self) -> int:
        """Bytes of the largest body that any path accepts."""
        return max(self.body_limit, *(self.limit(path) for path in self.paths))

    @property
    def has_legs(self) -> bool:
        """Whether any route may go to more than one pool."""
        return any(route.has_legs for route in self.routes)
