from __future__ import annotations

from typing import Any

from tools.gateway.envoy.routing import route_configuration
from tools.gateway.routes import Path, Route, Routes, Share

ROUTES = Routes(
    routes=(
        Route(model="adapter", pools=(Share(pool="own"),), attempts=1),
        Route(base_model="base", pools=(Share(pool="a", weight=3), Share(pool="b"))),
    ),
    paths=(Path(prefix="/v1/audio/", body_limit=8192), Path(path="/tokenize")),
    denied_paths=("/v1/admin",),
    body_limit=4096,
)


def built(routes: Routes = ROUTES) -> list[dict[str, Any]]:
    (host,) = route_configuration(routes).to_dict()["virtualHosts"]
    found: list[dict[str, Any]] = host["routes"]
    return found


def named(name: str) -> dict[str, Any]:
    return next(route for route in built() if route["name"] == name)


def test_refusals_come_first_then_models_then_the_way_to_bbr_then_404():
    """The first route that matches decides."""
    assert [route["name"] for route in built()] == [
        *("denied", "adapter", "base", "unrouted", "unrouted", "not-found")
    ]


def test_a_name_is_matched_as_model_or_as_base_model():
    """One adapter can have a route of its own."""
    assert named("adapter")["match"]["headers"] == [
        {"name": "x-gateway-model-name", "stringMatch": {"exact": "adapter"}}
    ]
    assert named("base")["match"]["headers"] == [
        {"name": "x-gateway-base-model-name", "stringMatch": {"exact": "base"}}
    ]


def test_one_attempt_means_no_retry_policy():
    """And three mean two retries."""
    assert "retryPolicy" not in named("adapter")["route"]
    assert named("base")["route"]["retryPolicy"]["numRetries"] == 2


def test_limits_before_bbr_are_the_paths_and_after_it_the_largest():
    """A model's route must not refuse what the path let in."""
    assert [route["requestBodyBufferLimit"] for route in built() if route["name"] == "unrouted"] == [
        8192,
        4096,
    ]
    assert named("base")["requestBodyBufferLimit"] == 8192


def test_a_split_tells_each_shares_pool():
    """The EPP picks from the pool that Envoy's dice chose."""
    clusters = named("base")["route"]["weightedClusters"]["clusters"]
    assert [(entry["name"], entry["weight"]) for entry in clusters] == [("pool-a", 3), ("pool-b", 1)]
    told = [entry["typedPerFilterConfig"]["epp"]["overrides"]["grpcInitialMetadata"] for entry in clusters]
    assert told == [
        [{"key": "x-gateway-pool", "value": "a"}],
        [{"key": "x-gateway-pool", "value": "b"}],
    ]
