"""The edge's route table: refusals, models to pools, the route before BBR has spoken, and 404 for the rest."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route

from tools.gateway.conditions import PathCondition
from tools.gateway.envoy.clusters import PICK, UNROUTED
from tools.gateway.envoy.filters import BBR_RESPONSE, RENAMED
from tools.gateway.envoy.forwarding import pool_settings, to_pools, told_to_client
from tools.gateway.envoy.legs import dispatch
from tools.gateway.envoy.local_replies import FALLBACK, NO_SUCH_PATH
from tools.gateway.envoy.matching import match_of, path_match, present
from tools.gateway.envoy.settings import Settings, answers_unchecked, names_restored, off, per_filter
from tools.gateway.envoy.typed import seconds, set_header
from tools.gateway.routes import Path, Route, Routes


def route_configuration(routes: Routes) -> route.RouteConfiguration:
    """Everything on one virtual host. The order is the precedence."""
    host = route.VirtualHost(
        name="llm",
        domains=["*"],
        routes=[
            *(_denied(path) for path in routes.denied_paths),
            *(built for entry in routes.routes for built in _entry(entry, routes)),
            *(_unrouted(path, routes.limit(path)) for path in routes.paths),
            _not_found(),
        ],
        # Names can be restored only where a route says so.
        typed_per_filter_config=per_filter(off(BBR_RESPONSE)),
        response_headers_to_add=told_to_client(),
        # The number of the attempt is the place in a route's list of pools.
        include_request_attempt_count=routes.has_legs,
    )
    return route.RouteConfiguration(
        name="models",
        # The pick travels as metadata; the header form is for gateways without override_host.
        request_headers_to_remove=[PICK],
        virtual_hosts=[host],
    )


def _entry(entry: Route, routes: Routes) -> list[route.Route]:
    """Return the routes of `entry`. One with a model is there twice, first for requests that BBR renamed."""
    if not entry.names_model:
        return [_without_model(entry, entry.body_limit or routes.body_limit)]
    if routes.services.bbr.answers == "all":
        return [_with_model(entry, routes.largest_body, names_restored())]
    renamed = _with_model(entry, routes.largest_body, names_restored(), present(RENAMED))
    return [renamed, _with_model(entry, routes.largest_body, {})]


def _with_model(entry: Route, body_limit: int, settings: Settings, *more: route.HeaderMatcher) -> route.Route:
    """After BBR: the model is known, and with it pool, retries, timeouts and the later filters' settings."""
    unchecked = {} if entry.check_answers else answers_unchecked()
    pool = off("epp") if entry.has_legs else pool_settings(entry.pools)
    built = route.Route(
        name=entry.name,
        match=match_of(entry, *more),
        # Also what a retry may keep of the body, so never less than what was let in.
        request_body_buffer_limit=body_limit,
        typed_per_filter_config=per_filter(unchecked, pool, settings),
    )
    if entry.has_legs:
        built.route, built.request_headers_to_add = dispatch(entry)
        built.response_headers_to_remove = [FALLBACK]
    else:
        built.route = to_pools(entry, entry.pools)
    return built


def _without_model(entry: Route, body_limit: int) -> route.Route:
    """Before BBR has spoken, and again after it."""
    unread = {} if entry.read_body else off("bbr")
    unchecked = {} if entry.check_answers else answers_unchecked()
    return route.Route(
        name=entry.name,
        match=match_of(entry),
        route=to_pools(entry, entry.pools),
        request_body_buffer_limit=body_limit,
        typed_per_filter_config=per_filter(unread, unchecked, pool_settings(entry.pools)),
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
        typed_per_filter_config=per_filter(off("safety", "epp")),
    )


def _denied(path: str) -> route.Route:
    return _refusal("denied", PathCondition(exact=path))


def _not_found() -> route.Route:
    return _refusal("not-found", PathCondition(prefix="/"))


def _refusal(name: str, path: PathCondition) -> route.Route:
    return route.Route(
        name=name,
        match=path_match(path),
        direct_response=route.DirectResponseAction(
            status=404, body=core.DataSource(inline_string=NO_SUCH_PATH)
        ),
        response_headers_to_add=[set_header("content-type", "application/json")],
        typed_per_filter_config=per_filter(off("bbr", "safety", "epp")),
    )
