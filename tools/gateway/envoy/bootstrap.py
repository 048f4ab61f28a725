"""The whole of Envoy's configuration, as one typed object and as the text that the binary reads."""

from __future__ import annotations

import json

import yaml
from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.overload import v3 as overload
from envoy_data_plane.envoy.extensions.bootstrap.internal_listener.v3 import InternalListener
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import (
    DownstreamConnectionsConfig,
)
from envoy_data_plane.envoy.extensions.resource_monitors.fixed_heap.v3 import FixedHeapConfig
from envoy_data_plane.google.protobuf import Struct

from tools.gateway.envoy.addresses import EPP_CONTROL, AddressBook
from tools.gateway.envoy.clusters import legs_cluster, pool_cluster, service_cluster, unrouted_cluster
from tools.gateway.envoy.edge import edge_listener
from tools.gateway.envoy.legs import legs_listener
from tools.gateway.envoy.typed import address, extension, packed, seconds
from tools.gateway.routes import Routes

HEAP_BYTES = 2 * 1024**3
"""BUFFERED holds each prompt in memory until two services have seen it, so memory has to have a ceiling."""

HEAP = "envoy.resource_monitors.fixed_heap"
CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"


def build(routes: Routes, addresses: AddressBook) -> bootstrap.Bootstrap:
    """Return the bootstrap for `routes`, with every service at its place in `addresses`."""
    fail_open = routes.services.epp.fail_open
    legs = [legs_listener(routes, addresses.access_log)] if routes.has_legs else []
    return bootstrap.Bootstrap(
        # EDS does not start without both.
        node=core.Node(id="gateway-1", cluster="inference-gateway"),
        admin=bootstrap.Admin(address=address(addresses.admin)),
        layered_runtime=_runtime(),
        overload_manager=_overload_manager(),
        bootstrap_extensions=[extension("envoy.bootstrap.internal_listener", InternalListener())]
        if legs
        else [],
        static_resources=bootstrap.BootstrapStaticResources(
            listeners=[edge_listener(routes, addresses), *legs],
            clusters=[
                service_cluster("bbr", addresses.bbr),
                service_cluster("safety", addresses.safety),
                service_cluster("epp", addresses.epp, *addresses.more_epps),
                service_cluster(EPP_CONTROL, addresses.epp, *addresses.more_epps),
                *(pool_cluster(pool, routes.limits(pool), fail_open=fail_open) for pool in routes.pools),
                unrouted_cluster(),
                *([legs_cluster()] if legs else []),
            ],
        ),
    )


def to_json(config: bootstrap.Bootstrap) -> str:
    """Return the text that the binary reads."""
    return config.to_json(indent=2)


def to_yaml(config: bootstrap.Bootstrap) -> str:
    """Return YAML in Envoy's field order, with JSON's camelCase names, which Envoy reads as well."""
    return yaml.safe_dump(json.loads(config.to_json()), sort_keys=False, width=110)


def from_yaml(text: str) -> bootstrap.Bootstrap:
    """Parse what Envoy would read. Raises where a field is unknown to Envoy's API."""
    return bootstrap.Bootstrap.from_dict(yaml.safe_load(text))


def _runtime() -> bootstrap.LayeredRuntime:
    # Off by default. Refuses malformed chunk framing, which two parsers could read in two ways.
    flags = Struct.from_dict({"envoy.reloadable_features.strict_chunk_parsing": True})
    return bootstrap.LayeredRuntime(layers=[bootstrap.RuntimeLayer(name="static", static_layer=flags)])


def _overload_manager() -> overload.OverloadManager:
    return overload.OverloadManager(
        refresh_interval=seconds(0.25),
        resource_monitors=[
            overload.ResourceMonitor(
                name=HEAP, typed_config=packed(FixedHeapConfig(max_heap_size_bytes=HEAP_BYTES))
            ),
            overload.ResourceMonitor(
                name=CONNECTIONS,
                typed_config=packed(DownstreamConnectionsConfig(max_active_downstream_connections=20000)),
            ),
        ],
        actions=[
            _heap_action("envoy.overload_actions.shrink_heap", 0.90),
            _heap_action("envoy.overload_actions.stop_accepting_requests", 0.95),
        ],
        buffer_factory_config=overload.BufferFactoryConfig(minimum_account_to_track_power_of_two=20),
    )


def _heap_action(name: str, threshold: float) -> overload.OverloadAction:
    trigger = overload.Trigger(name=HEAP, threshold=overload.ThresholdTrigger(value=threshold))
    return overload.OverloadAction(name=name, triggers=[trigger])
