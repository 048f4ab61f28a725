"""What happens to a request that a route has taken: pools and weights, attempts, timeouts."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route

from tools.gateway.envoy.clusters import pool_cluster_name
from tools.gateway.envoy.filters import EPP_METADATA
from tools.gateway.envoy.settings import Settings, per_filter, pool_is
from tools.gateway.envoy.typed import seconds, set_header
from tools.gateway.routes import Route, Share

ANSWER_HEADERS = ("x-gateway-explain", "x-session-token")
"""Why the server was chosen, for who asked and may; and which one a session stays on."""

RETRIABLE = "connect-failure,refused-stream,reset-before-request"
"""Only what has not reached a server: never a 5xx or a broken answer, for a generation may have begun."""


def to_pools(entry: Route, pools: tuple[Share, ...]) -> route.RouteAction:
    """Send a request to one of `pools`, by weight, and there to the endpoints of the EPP's list in turn."""
    single = len(pools) == 1
    return route.RouteAction(
        cluster=pool_cluster_name(pools[0].pool) if single else None,
        weighted_clusters=None if single else _split(pools),
        # The default of 15 s would cut every long answer.
        timeout=seconds(0),
        idle_timeout=seconds(entry.idle_timeout_seconds),
        max_stream_duration=longest(entry),
        retry_policy=_retries(entry),
    )


def told_to_client() -> list[core.HeaderValueOption]:
    """Return the answer's headers that the EPP gave with its pick: it sees no answers, so Envoy sets them."""
    return [set_header(name, f"%DYNAMIC_METADATA({EPP_METADATA}:answer:{name})%") for name in ANSWER_HEADERS]


def pool_settings(pools: tuple[Share, ...]) -> Settings:
    """Tell the EPP a single pool; those of a split say it themselves."""
    return pool_is(pools[0].pool) if len(pools) == 1 else {}


def longest(entry: Route) -> route.RouteActionMaxStreamDuration:
    """Return the bound on a whole exchange."""
    return route.RouteActionMaxStreamDuration(max_stream_duration=seconds(entry.max_duration_seconds))


def back_off() -> route.RetryPolicyRetryBackOff:
    """Return the pause before another try, which goes to another server anyway."""
    return route.RetryPolicyRetryBackOff(base_interval=seconds(0.005), max_interval=seconds(0.05))


def _split(pools: tuple[Share, ...]) -> route.WeightedCluster:
    return route.WeightedCluster(
        clusters=[
            route.WeightedClusterClusterWeight(
                name=pool_cluster_name(share.pool),
                weight=share.weight,
                typed_per_filter_config=per_filter(pool_is(share.pool)),
            )
            for share in pools
        ]
    )


def _retries(entry: Route) -> route.RetryPolicy | None:
    """Take the next endpoint of the EPP's list for each retry."""
    if entry.attempts == 1 and entry.first_byte_seconds is None:
        return None
    # The deadline ends with the answer's head. It is none of the conditions: an endpoint that is slow has begun.
    deadline = None if entry.first_byte_seconds is None else seconds(entry.first_byte_seconds)
    return route.RetryPolicy(
        retry_on=RETRIABLE if entry.attempts > 1 else "",
        num_retries=entry.attempts - 1,
        retry_back_off=back_off(),
        per_try_timeout=deadline,
    )
