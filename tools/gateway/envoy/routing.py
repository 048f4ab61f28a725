"""The route table: models to pools, the route before BBR has spoken, and 404 for the rest."""

from __future__ import annotations

from betterproto2 import Message
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any as ProtoAny

from tools.gateway.envoy.clusters import PICK, UNROUTED, pool_cluster_name
from tools.gateway.envoy.filters import safety_mode
from tools.gateway.envoy.local_replies import NO_SUCH_PATH
from tools.gateway.envoy.typed import packed, seconds
from tools.gateway.routes import Path, Route, Routes, Share

POOL_CONTEXT = "x-gateway-pool"
"""The gRPC initial metadata that tells the EPP which pool it picks from."""


def route_configuration(routes: Routes) -> route.RouteConfiguration:
    """Everything on one virtual host. The order is the precedence."""
    return route.RouteConfiguration(
        name="models",
        # The pick travels as metadata; the header form is for gateways without override_host.
        request_headers_to_remove=[PICK],
        virtual_hosts=[
            route.VirtualHost(
                name="llm",
                domains=["*"],
                routes=[
                    *(_denied(path) for path in routes.denied_paths),
                    *(_model(entry, routes.largest_body) for entry in routes.routes),
                    *(_unrouted(path, routes.limit(path)) for path in routes.paths),
                    _not_found(),
                ],
            )
        ],
    )


def _model(entry: Route, body_limit: int) -> route.Route:
    """After BBR: the model is known, and with it pool, retries, timeouts and the later filters' settings."""
    single = entry.pools[0] if len(entry.pools) == 1 else None
    settings: dict[str, Message] = {}
    if not entry.check_answers:
        settings["safety"] = _overrides(processing_mode=safety_mode(answers=False))
    if single:
        settings["epp"] = _pool_setting(single.pool)
    return route.Route(
        name=entry.name,
        match=route.RouteMatch(prefix="/", headers=[_header(entry)]),
        route=_forward(entry, single),
        # Also what a retry may keep of the body, so never less than what was let in.
        request_body_buffer_limit=body_limit,
        typed_per_filter_config=_per_filter(settings),
    )


def _header(entry: Route) -> route.HeaderMatcher:
    name = "x-gateway-model-name" if entry.model else "x-gateway-base-model-name"
    return route.HeaderMatcher(name=name, string_match=StringMatcher(exact=entry.name))


def _forward(entry: Route, single: Share | None) -> route.RouteAction:
    return route.RouteAction(
        cluster=pool_cluster_name(single.pool) if single else None,
        weighted_clusters=None if single else _split(entry.pools),
        # The default of 15 s would cut every long answer.
        timeout=seconds(0),
        idle_timeout=seconds(entry.idle_timeout_seconds),
        max_stream_duration=route.RouteActionMaxStreamDuration(
            max_stream_duration=seconds(entry.max_duration_seconds)
        ),
        retry_policy=_retries(entry.attempts) if entry.attempts > 1 else None,
    )


def _split(shares: tuple[Share, ...]) -> route.WeightedCluster:
    return route.WeightedCluster(
        clusters=[
            route.WeightedClusterClusterWeight(
                name=pool_cluster_name(share.pool),
                weight=share.weight,
                typed_per_filter_config=_per_filter({"epp": _pool_setting(share.pool)}),
            )
            for share in shares
        ]
    )


def _retries(attempts: int) -> route.RetryPolicy:
    """Each retry takes the next endpoint of the EPP's list; never on a 5xx, for a generation may have begun."""
    return route.RetryPolicy(
        retry_on="connect-failure,refused-stream,reset-before-request",
        num_retries=attempts - 1,
        retry_back_off=route.RetryPolicyRetryBackOff(
            base_interval=seconds(0.005), max_interval=seconds(0.05)
        ),
    )


def _unrouted(path: Path, body_limit: int) -> route.Route:
    """Before BBR. A forward route, since a direct response ignores the body limit; BBR's refusals end here.

    Safety and EPP are off, or a request that BBR refuses would open a stream to each for its answer.
    """
    return route.Route(
        name="unrouted",
        match=route.RouteMatch(path=path.path, prefix=path.prefix),
        route=route.RouteAction(cluster=UNROUTED, timeout=seconds(5)),
        request_body_buffer_limit=body_limit,
        typed_per_filter_config=_off("safety", "epp"),
    )


def _denied(path: str) -> route.Route:
    return _refusal("denied", route.RouteMatch(path=path))


def _not_found() -> route.Route:
    return _refusal("not-found", route.RouteMatch(prefix="/"))


def _refusal(name: str, match: route.RouteMatch) -> route.Route:
    json = core.HeaderValueOption(
        header=core.HeaderValue(key="content-type", value="application/json"),
        append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    return route.Route(
        name=name,
        match=match,
        direct_response=route.DirectResponseAction(
            status=404, body=core.DataSource(inline_string=NO_SUCH_PATH)
        ),
        response_headers_to_add=[json],
        typed_per_filter_config=_off("bbr", "safety", "epp"),
    )


def _pool_setting(pool: str) -> ext_proc.ExtProcPerRoute:
    return _overrides(grpc_initial_metadata=[core.HeaderValue(key=POOL_CONTEXT, value=pool)])


def _overrides(
    *,
    processing_mode: ext_proc.ProcessingMode | None = None,
    grpc_initial_metadata: list[core.HeaderValue] | None = None,
) -> ext_proc.ExtProcPerRoute:
    return ext_proc.ExtProcPerRoute(
        overrides=ext_proc.ExtProcOverrides(
            processing_mode=processing_mode, grpc_initial_metadata=grpc_initial_metadata or []
        )
    )


def _off(*names: str) -> dict[str, ProtoAny]:
    return _per_filter({name: ext_proc.ExtProcPerRoute(disabled=True) for name in names})


def _per_filter(settings: dict[str, Message]) -> dict[str, ProtoAny]:
    return {name: packed(message) for name, message in settings.items()}
