"""`config/routes.yaml`: what Envoy does with a request, as strict values. Knows nothing of Envoy's API."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta, Struct, field

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


class Share(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pool and its part of a route's requests."""

    pool: Name
    weight: Positive = 1


class Route(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the requests for one model go. Exactly one of `base_model` and `model` is set."""

    base_model: str | None = None
    """The model and all its adapters."""
    model: str | None = None
    """This name alone, such as one adapter."""
    pools: Annotated[tuple[Share, ...], Meta(min_length=1)]
    attempts: Positive = 3
    """Endpoints of the EPP's list that are tried; only while no byte of an answer has come."""
    idle_timeout_seconds: Seconds = 300
    """Silence between two pieces of an answer; must exceed the worst time to the first token."""
    max_duration_seconds: Seconds = 3600
    check_answers: bool = True
    """False takes safety off the answer's path, for models whose policy looks at prompts only."""

    def __post_init__(self) -> None:
        if (self.base_model is None) == (self.model is None):
            raise ValueError("a route names either `base_model` or `model`")
        pools = [share.pool for share in self.pools]
        if len(set(pools)) < len(pools):
            raise ValueError(f"a pool is named twice: {', '.join(pools)}")

    @property
    def name(self) -> str:
        """The model that is matched; also Envoy's name for the route."""
        return self.model or self.base_model or ""


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


class Services(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The three services, in the order in which a request meets them."""

    bbr: ServiceCall = ServiceCall(timeout_seconds=2)
    safety: ServiceCall = ServiceCall(timeout_seconds=5, max_timeout_seconds=30)
    epp: ServiceCall = ServiceCall(timeout_seconds=2, max_timeout_seconds=60)

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
    edge: Edge = field(default_factory=Edge)
    services: Services = field(default_factory=Services)

    def __post_init__(self) -> None:
        keys = [("model" if route.model else "base_model", route.name) for route in self.routes]
        for kind, name in keys:
            if keys.count((kind, name)) > 1:
                raise ValueError(f"two routes for {kind} {name}")

    @property
    def pools(self) -> tuple[str, ...]:
        """Every pool that a route names, in order and once."""
        return tuple(dict.fromkeys(share.pool for route in self.routes for share in route.pools))

    def limit(self, path: Path) -> int:
        """Bytes of body that `path` accepts."""
        return path.body_limit or self.body_limit

    @property
    def largest_body(self) -> int:
        """Bytes of the largest body that any path accepts."""
        return max(self.body_limit, *(self.limit(path) for path in self.paths))
