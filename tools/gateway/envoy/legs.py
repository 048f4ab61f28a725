"""Routes with mirrors or fallbacks: Envoy sends such a request to itself, once for each pool that may get it.

Why: a pick is made once per pass through the filters, and Envoy's retries and mirrors do not pass them again. Behind
the internal listener every leg has an EPP's pick of its own, load that is counted and released by itself, and, where
its pool knows the model under another name, a BBR that rewrites the body. docs/adr/0006 has the alternatives.

The edge sends, the legs choose: `x-gateway-leg` names the route, the number of the attempt is the place in the list
of pools, and a mirror's number marks a copy. A leg that could not begin an answer says so in `x-gateway-fallback`,
which is the one thing on which the edge tries again.
"""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type import v3 as type_

from tools.gateway.envoy.clusters import LEGS, PICK
from tools.gateway.envoy.filters import BBR_METADATA, BBR_RESPONSE, RENAMED, leg_filters
from tools.gateway.envoy.forwarding import back_off, longest, pool_settings, to_pools, told_to_client
from tools.gateway.envoy.local_replies import FALLBACK, leg_reply_config
from tools.gateway.envoy.logs import access_logs
from tools.gateway.envoy.matching import exactly, present
from tools.gateway.envoy.settings import Settings, model_is, names_restored, off, per_filter
from tools.gateway.envoy.typed import packed, seconds, set_header
from tools.gateway.routes import Fallback, Mirror, Route, Routes, Share

LEG = "x-gateway-leg"
"""Which route the request took at the edge. Clients cannot set it: the edge removes the prefix."""
MIRROR = "x-gateway-mirror"
"""Which of the route's mirrors a copy is for, counted from 1."""
ATTEMPT = "x-envoy-attempt-count"
"""Set by the edge's router, counted from 1."""
DIGEST = "x-gateway-digest"
"""BBR's digest on the way into a leg; the leg turns it into metadata again."""

HEADERS_KIB = 64
"""The digest of a 16 MiB prompt is 8 KiB of header."""


def dispatch(entry: Route) -> tuple[route.RouteAction, list[core.HeaderValueOption]]:
    """Return what the edge does with a request for `entry`, and the headers that go with it."""
    action = route.RouteAction(
        cluster=LEGS,
        timeout=seconds(0),
        # The legs have their own; together they may be silent for as long as all of them.
        idle_timeout=_all_silent(entry),
        max_stream_duration=longest(entry),
        retry_policy=_fallbacks(len(entry.fallbacks)) if entry.fallbacks else None,
        request_mirror_policies=[_copy(mirror, n) for n, mirror in enumerate(entry.mirrors, 1)],
    )
    digest = f"%DYNAMIC_METADATA({BBR_METADATA}:digest)%"
    return action, [set_header(LEG, entry.name), set_header(DIGEST, digest)]


def legs_listener(routes: Routes, log: str | None) -> listener.Listener:
    """Return the listener that only Envoy itself reaches."""
    manager = listener.Filter(
        name="envoy.filters.network.http_connection_manager",
        typed_config=packed(_connection_manager(routes, log)),
    )
    return listener.Listener(
        name=LEGS,
        internal_listener=listener.ListenerInternalListenerConfig(),
        per_connection_buffer_limit_bytes=1024 * 1024,
        filter_chains=[listener.FilterChain(filters=[manager])],
    )


def _connection_manager(routes: Routes, log: str | None) -> hcm.HttpConnectionManager:
    server_header = hcm.HttpConnectionManagerServerHeaderTransformation
    return hcm.HttpConnectionManager(
        stat_prefix=LEGS,
        codec_type=hcm.HttpConnectionManagerCodecType.HTTP2,
        server_header_transformation=server_header.PASS_THROUGH,
        stream_idle_timeout=seconds(300),
        max_request_headers_kb=HEADERS_KIB,
        local_reply_config=leg_reply_config(),
        access_log=access_logs(log),
        http_filters=leg_filters(routes.services, digest_header=DIGEST),
        route_config=leg_table(routes),
    )


def leg_table(routes: Routes) -> route.RouteConfiguration:
    """Return the legs of every route that has any: a route's mirrors, its pools, and its fallbacks in order."""
    host = route.VirtualHost(
        name=LEGS,
        domains=["*"],
        routes=[
            leg for entry in routes.routes if entry.has_legs for leg in _legs(entry, routes.largest_body)
        ],
        response_headers_to_add=told_to_client(),
        typed_per_filter_config=per_filter(off("bbr", BBR_RESPONSE)),
    )
    return route.RouteConfiguration(
        name=LEGS, request_headers_to_remove=[LEG, MIRROR, ATTEMPT, PICK], virtual_hosts=[host]
    )


def _legs(entry: Route, body_limit: int) -> list[route.Route]:
    found: list[route.Route] = []
    for number, mirror in enumerate(entry.mirrors, 1):
        found += _leg(entry, mirror, exactly(MIRROR, str(number)), body_limit)
    first = exactly(ATTEMPT, "1") if entry.fallbacks else None
    found.append(
        _leg_to(entry, entry.pools, [exactly(LEG, entry.name), *([first] if first else [])], body_limit, {})
    )
    for number, fallback in enumerate(entry.fallbacks, 2):
        found += _leg(entry, fallback, exactly(ATTEMPT, str(number)), body_limit)
    return found


def _leg(
    entry: Route, target: Mirror | Fallback, which: route.HeaderMatcher, body_limit: int
) -> list[route.Route]:
    pools, match = (Share(pool=target.pool),), [exactly(LEG, entry.name), which]
    if target.model is None:
        return [_leg_to(entry, pools, match, body_limit, {})]
    rewritten = model_is(target.model)
    restored = {**rewritten, **names_restored()}
    return [
        _leg_to(entry, pools, [*match, present(RENAMED)], body_limit, restored),
        _leg_to(entry, pools, match, body_limit, rewritten),
    ]


def _leg_to(
    entry: Route,
    pools: tuple[Share, ...],
    match: list[route.HeaderMatcher],
    body_limit: int,
    settings: Settings,
) -> route.Route:
    return route.Route(
        name=entry.name,
        match=route.RouteMatch(prefix="/", headers=match),
        route=to_pools(entry, pools),
        request_body_buffer_limit=body_limit,
        # Only a leg itself may say that nothing has begun.
        response_headers_to_remove=[FALLBACK],
        typed_per_filter_config=per_filter(pool_settings(pools), settings),
    )


def _all_silent(entry: Route) -> timedelta:
    return seconds(entry.idle_timeout_seconds * (1 + len(entry.fallbacks)))


def _fallbacks(count: int) -> route.RetryPolicy:
    return route.RetryPolicy(
        retry_on="retriable-headers",
        retriable_headers=[present(FALLBACK)],
        num_retries=count,
        retry_back_off=back_off(),
    )


def _copy(mirror: Mirror, number: int) -> route.RouteActionRequestMirrorPolicy:
    # In millionths, so that a thousandth of a percent is still something.
    share = type_.FractionalPercent(
        numerator=round(mirror.percent * 10_000), denominator=type_.FractionalPercentDenominatorType.MILLION
    )
    return route.RouteActionRequestMirrorPolicy(
        cluster=LEGS,
        runtime_fraction=core.RuntimeFractionalPercent(default_value=share),
        disable_shadow_host_suffix_append=True,
        request_headers_mutations=[mutation.HeaderMutation(append=set_header(MIRROR, str(number)))],
    )
