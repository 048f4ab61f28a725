"""Pieces of an Envoy bootstrap as plain dictionaries: what a reproducer varies is an argument, the rest is fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.e2e.harness.envoy import Config

TYPE = "type.googleapis.com/envoy"
EXT_PROC = f"{TYPE}.extensions.filters.http.ext_proc.v3"
MODEL = "x-gateway-model-name"
DESTINATION = "x-gateway-destination-endpoint"
UPSTREAM = f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions"
POLICIES = "extensions.load_balancing_policies"


def bootstrap(listeners: Sequence[Config], clusters: Sequence[Config]) -> Config:
    """Return a whole bootstrap; Envoy chooses the ports."""
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": _address(0)},
        "static_resources": {"listeners": list(listeners), "clusters": list(clusters)},
    }


def listener(name: str, filters: Sequence[Config], routes: Sequence[Config], **options: object) -> Config:
    """Return a listener whose requests pass `filters`; `options` are fields of its connection manager."""
    router = {"name": "router", "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"}}
    virtual_host = {"name": "all", "domains": ["*"], "routes": list(routes)}
    manager = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_protocol_options": {"enable_trailers": True},
        "http_filters": [*filters, router],
        "route_config": {"name": "routes", "virtual_hosts": [virtual_host]},
        **options,
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"name": name, "address": _address(0), "filter_chains": [chain]}


def route(
    cluster: str, *, match: Config | None = None, per_filter: Config | None = None, **action: object
) -> Config:
    """Return a route to `cluster`. A key of `action` that belongs to the route itself is moved there."""
    outer = {key: action.pop(key) for key in ("request_body_buffer_limit", "name") if key in action}
    settings = {"typed_per_filter_config": per_filter} if per_filter else {}
    to = {"cluster": cluster, "timeout": "10s", **action}
    return {"match": match or {"prefix": "/"}, "route": to, **outer, **settings}


def own_answer(status: int, *, match: Config | None = None, **options: object) -> Config:
    """Return a route that Envoy answers itself."""
    return {"match": match or {"prefix": "/"}, "direct_response": {"status": status}, **options}


def for_model(model: str) -> Config:
    """Return a match for requests whose model header is `model`."""
    return {"prefix": "/", "headers": [{"name": MODEL, "string_match": {"exact": model}}]}


def disabled(*filters: str) -> Config:
    """Return per-route settings that switch ext_proc filters off by their names."""
    return {name: {"@type": f"{EXT_PROC}.ExtProcPerRoute", "disabled": True} for name in filters}


def ext_proc(
    name: str,
    mode: Mapping[str, str],
    *,
    cluster: str = "ext",
    retry: Config | None = None,
    **options: object,
) -> Config:
    """Return an ext_proc filter. Its name goes to the server as initial metadata."""
    initial = [{"key": "x-filter", "value": name}]
    grpc: dict[str, object] = {"envoy_grpc": {"cluster_name": cluster}, "initial_metadata": initial}
    if retry:
        grpc["retry_policy"] = retry
    config = {
        "@type": f"{EXT_PROC}.ExternalProcessor",
        "stat_prefix": name,
        "grpc_service": grpc,
        "processing_mode": dict(mode),
        "message_timeout": "5s",
        "metadata_options": {
            "forwarding_namespaces": {"untyped": ["envoy.lb", "gw.bbr"]},
            "receiving_namespaces": {"untyped": ["envoy.lb", "gw.bbr"]},
        },
        **options,
    }
    return {"name": name, "typed_config": config}


def cluster(
    name: str, ports: Sequence[int], *, http2: bool = False, balancing: Config | None = None
) -> Config:
    """Return a static cluster on loopback ports; `balancing` takes the place of round robin."""
    protocol = (
        {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {"enable_trailers": True}}
    )
    upstream = {"@type": UPSTREAM, "explicit_http_config": protocol}
    endpoints = [{"endpoint": {"address": _address(port)}} for port in ports]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": upstream
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        **(balancing or {}),
    }


def override_host(*, strict: bool = True) -> Config:
    """Return the load balancing that takes endpoints from metadata, and 503 (strict) or any host without a pick."""
    round_robin = _policy("round_robin", "RoundRobin")
    subset = _policy(
        "subset",
        "Subset",
        fallback_policy="NO_FALLBACK",
        subset_selectors=[{"keys": ["strict-never"]}],
        subset_lb_policy={"policies": [round_robin]},
    )
    override = _policy(
        "override_host",
        "OverrideHost",
        override_host_sources=[{"metadata": {"key": "envoy.lb", "path": [{"key": DESTINATION}]}}],
        selected_host_key={"key": "envoy.lb", "path": [{"key": f"{DESTINATION}-served"}]},
        fallback_policy={"policies": [subset if strict else round_robin]},
    )
    return {"load_balancing_policy": {"policies": [override]}}


def _policy(name: str, message: str, **fields: object) -> Config:
    config = {"@type": f"{TYPE}.{POLICIES}.{name}.v3.{message}", **fields}
    return {
        "typed_extension_config": {"name": f"envoy.load_balancing_policies.{name}", "typed_config": config}
    }


def _address(port: int) -> Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
