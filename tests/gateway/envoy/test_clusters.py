from __future__ import annotations

import json

import pytest

from tools.gateway.envoy.addresses import Address
from tools.gateway.envoy.clusters import pool_cluster, service_cluster, unrouted_cluster
from tools.gateway.routes import PoolLimits


@pytest.mark.parametrize(
    ("host", "discovery"), [("10.0.0.1", "STATIC"), ("::1", "STATIC"), ("safety", "STRICT_DNS")]
)
def test_a_service_is_resolved_when_it_has_a_name(host, discovery):
    """Compose has names, the local run has addresses."""
    built = service_cluster("safety", Address(host, 9006)).to_dict()
    # STATIC is the default and left out.
    assert built.get("type", "STATIC") == discovery


def test_a_services_replicas_are_endpoints_of_one_cluster():
    """Envoy spreads the load and leaves out who is down."""
    built = service_cluster("epp", *(Address("127.0.0.1", port) for port in (9002, 9200))).to_dict()
    ((group,),) = [built["loadAssignment"]["endpoints"]]
    assert [host["endpoint"]["address"]["socketAddress"]["portValue"] for host in group["lbEndpoints"]] == [
        9002,
        9200,
    ]


@pytest.mark.parametrize(("fail_open", "fallback"), [(False, "subset"), (True, "round_robin")])
def test_without_a_pick_there_is_no_server_unless_the_epp_may_fail_open(fail_open, fallback):
    """A random server is a choice that somebody has to make."""
    policy = pool_cluster("a", PoolLimits(), fail_open=fail_open).to_dict()["loadBalancingPolicy"][
        "policies"
    ][0]
    override = policy["typedExtensionConfig"]["typedConfig"]
    (chosen,) = override["fallbackPolicy"]["policies"]
    assert chosen["typedExtensionConfig"]["name"] == f"envoy.load_balancing_policies.{fallback}"
    assert [list(source) for source in override["overrideHostSources"]] == [["metadata"]]


def test_the_cluster_before_bbr_has_no_hosts():
    """Whatever matches the route before BBR has spoken ends there."""
    assert "127.0.0.1" not in json.dumps(unrouted_cluster().to_dict())
    assert unrouted_cluster().to_dict()["loadAssignment"] == {"clusterName": "no-such-model"}


def test_a_pools_limits_are_its_circuit_breakers():
    """Each of the four by itself."""
    limits = PoolLimits(max_requests=5, max_connections=6, max_pending=7, connect_timeout_seconds=0.25)
    built = pool_cluster("a", limits).to_dict()
    (threshold,) = built["circuitBreakers"]["thresholds"]
    assert (threshold["maxRequests"], threshold["maxConnections"], threshold["maxPendingRequests"]) == (
        5,
        6,
        7,
    )
    assert built["connectTimeout"] == "0.250s"
