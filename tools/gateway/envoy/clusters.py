"""The clusters: three services, the pools, and the empty one that a request is bound for until BBR has read it."""

from __future__ import annotations

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.extensions.load_balancing_policies.override_host import v3 as override_host
from envoy_data_plane.envoy.extensions.load_balancing_policies.round_robin import v3 as round_robin
from envoy_data_plane.envoy.extensions.load_balancing_policies.subset import v3 as subset
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream_http
from envoy_data_plane.envoy.type.metadata import v3 as metadata
from envoy_data_plane.envoy.type.v3 import Percent

from tools.gateway.envoy.addresses import EPP_CONTROL, Address
from tools.gateway.envoy.typed import address, extension, packed, seconds
from tools.gateway.routes import PoolLimits

UNROUTED = "no-such-model"
LEGS = "legs"
"""The internal listener, and the cluster that leads to it."""
PICK = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MANY = 20000
"""Requests in flight that are too many for any pool; Envoy's own default of 1024 is soon full of streams."""
HEALTH_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"


def pool_cluster_name(pool: str) -> str:
    """Return the cluster's name, which is also the EDS resource that the EPP serves for `pool`."""
    return f"pool-{pool}"


def service_cluster(name: str, where: Address, *more: Address) -> cluster.Cluster:
    """One of the three services, over HTTP/2; its replicas, if there are several, share the load.

    Every streamed answer holds one request on each service it passes for its whole life, hence the high limits.
    """
    return cluster.Cluster(
        name=name,
        type=cluster.ClusterDiscoveryType.STATIC if where.is_ip else cluster.ClusterDiscoveryType.STRICT_DNS,
        connect_timeout=seconds(0.5),
        lb_policy=cluster.ClusterLbPolicy.LEAST_REQUEST,
        # Otherwise Envoy goes on trying a service whose only replica is dead.
        common_lb_config=cluster.ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0)),
        typed_extension_protocol_options={HTTP_OPTIONS: packed(_http2())},
        circuit_breakers=_circuit_breakers(connections=1024),
        health_checks=[_grpc_health()],
        load_assignment=_endpoints(name, *map(address, (where, *more))),
    )


def pool_cluster(pool: str, limits: PoolLimits, *, fail_open: bool = False) -> cluster.Cluster:
    """Return a pool: members by EDS from the EPP, and of these the one that the EPP names for the request.

    Metadata is the only source of the name: a header could come from a client. Without a usable name the answer is
    503, or with `fail_open` any member.
    """
    return cluster.Cluster(
        name=pool_cluster_name(pool),
        type=cluster.ClusterDiscoveryType.EDS,
        connect_timeout=seconds(limits.connect_timeout_seconds),
        eds_cluster_config=cluster.ClusterEdsClusterConfig(eds_config=_eds_from_epp()),
        # Only the EPP says who is a member; a health state kept from before must not hold a removed host.
        ignore_health_on_host_removal=True,
        circuit_breakers=_circuit_breakers(
            connections=limits.max_connections, requests=limits.max_requests, pending=limits.max_pending
        ),
        per_connection_buffer_limit_bytes=1024 * 1024,
        typed_extension_protocol_options={HTTP_OPTIONS: packed(_http1())},
        load_balancing_policy=_policy(
            "envoy.load_balancing_policies.override_host",
            override_host.OverrideHost(
                override_host_sources=[override_host.OverrideHostOverrideHostSource(metadata=_lb_key(PICK))],
                selected_host_key=_lb_key(SERVED),
                fallback_policy=_any_host() if fail_open else _no_host(),
            ),
        ),
    )


def legs_cluster() -> cluster.Cluster:
    """Envoy itself, by its internal listener: what goes there has its pool chosen, and its endpoint picked, again."""
    internal = core.Address(
        envoy_internal_address=core.EnvoyInternalAddress(server_listener_name=LEGS, endpoint_id="self")
    )
    return cluster.Cluster(
        name=LEGS,
        type=cluster.ClusterDiscoveryType.STATIC,
        connect_timeout=seconds(1),
        circuit_breakers=_circuit_breakers(connections=1024, retries=MANY),
        per_connection_buffer_limit_bytes=1024 * 1024,
        # One stream for each request, so that ends and resets pass as they are.
        typed_extension_protocol_options={HTTP_OPTIONS: packed(_internal_http2())},
        load_assignment=_endpoints(LEGS, internal),
    )


def unrouted_cluster() -> cluster.Cluster:
    """No hosts, so nothing reaches a server without BBR's word."""
    return cluster.Cluster(
        name=UNROUTED,
        type=cluster.ClusterDiscoveryType.STATIC,
        connect_timeout=seconds(1),
        load_assignment=endpoint.ClusterLoadAssignment(cluster_name=UNROUTED),
    )


def grpc_service(name: str, *, retry_policy: core.RetryPolicy | None = None) -> core.GrpcService:
    """Return a call to the service cluster `name`."""
    return core.GrpcService(
        envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=name), retry_policy=retry_policy
    )


def _http2() -> upstream_http.HttpProtocolOptions:
    return upstream_http.HttpProtocolOptions(
        explicit_http_config=upstream_http.HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=core.Http2ProtocolOptions(
                max_concurrent_streams=1000,
                # gRPC servers answer pings that come too often with GOAWAY; ours allow this interval.
                connection_keepalive=core.KeepaliveSettings(interval=seconds(30), timeout=seconds(5)),
            )
        ),
        # Reconnecting now and then gives a new replica its share.
        common_http_protocol_options=core.HttpProtocolOptions(max_connection_duration=seconds(600)),
    )


def _internal_http2() -> upstream_http.HttpProtocolOptions:
    return upstream_http.HttpProtocolOptions(
        explicit_http_config=upstream_http.HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=core.Http2ProtocolOptions()
        )
    )


def _http1() -> upstream_http.HttpProtocolOptions:
    return upstream_http.HttpProtocolOptions(
        explicit_http_config=upstream_http.HttpProtocolOptionsExplicitHttpConfig(
            http_protocol_options=core.Http1ProtocolOptions()
        ),
        # Just under uvicorn's keep-alive of 5 s, so that Envoy never writes into a socket that is being closed.
        common_http_protocol_options=core.HttpProtocolOptions(idle_timeout=seconds(4)),
    )


def _circuit_breakers(
    *, connections: int, requests: int = MANY, pending: int = MANY, retries: int = 100
) -> cluster.CircuitBreakers:
    limits = cluster.CircuitBreakersThresholds(
        max_connections=connections,
        max_pending_requests=pending,
        max_requests=requests,
        max_retries=retries,
        track_remaining=True,
    )
    return cluster.CircuitBreakers(thresholds=[limits])


def _grpc_health() -> core.HealthCheck:
    return core.HealthCheck(
        timeout=seconds(1),
        interval=seconds(2),
        # A service that comes up late is noticed at once. The first two count until a cluster has had a request; left
        # out they are a minute.
        no_traffic_interval=seconds(0.25),
        no_traffic_healthy_interval=seconds(2),
        unhealthy_interval=seconds(0.25),
        unhealthy_threshold=2,
        healthy_threshold=1,
        grpc_health_check=core.HealthCheckGrpcHealthCheck(service_name=HEALTH_SERVICE),
    )


def _endpoints(name: str, *where: core.Address) -> endpoint.ClusterLoadAssignment:
    hosts = [endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=one)) for one in where]
    return endpoint.ClusterLoadAssignment(
        cluster_name=name, endpoints=[endpoint.LocalityLbEndpoints(lb_endpoints=hosts)]
    )


def _eds_from_epp() -> core.ConfigSource:
    # The stream comes back fast after a restart of the EPP; Envoy keeps the last members meanwhile.
    backoff = core.BackoffStrategy(base_interval=seconds(0.1), max_interval=seconds(0.5))
    epp = core.GrpcService(
        envoy_grpc=core.GrpcServiceEnvoyGrpc(
            cluster_name=EPP_CONTROL, retry_policy=core.RetryPolicy(retry_back_off=backoff)
        )
    )
    return core.ConfigSource(
        resource_api_version=core.ApiVersion.V3,
        api_config_source=core.ApiConfigSource(
            api_type=core.ApiConfigSourceApiType.GRPC,
            transport_api_version=core.ApiVersion.V3,
            grpc_services=[epp],
            set_node_on_first_message_only=True,
        ),
    )


def _lb_key(name: str) -> metadata.MetadataKey:
    return metadata.MetadataKey(key="envoy.lb", path=[metadata.MetadataKeyPathSegment(key=name)])


def _policy(
    name: str, message: override_host.OverrideHost | subset.Subset | round_robin.RoundRobin
) -> cluster.LoadBalancingPolicy:
    return cluster.LoadBalancingPolicy(
        policies=[cluster.LoadBalancingPolicyPolicy(typed_extension_config=extension(name, message))]
    )


def _any_host() -> cluster.LoadBalancingPolicy:
    return _policy("envoy.load_balancing_policies.round_robin", round_robin.RoundRobin())


def _no_host() -> cluster.LoadBalancingPolicy:
    """Return a subset that can never match: the way to say 503."""
    return _policy(
        "envoy.load_balancing_policies.subset",
        subset.Subset(
            fallback_policy=subset.SubsetLbSubsetFallbackPolicy.NO_FALLBACK,
            subset_selectors=[subset.SubsetLbSubsetSelector(keys=["strict-never"])],
            subset_lb_policy=_any_host(),
        ),
    )
