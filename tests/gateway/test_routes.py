from __future__ import annotations

import pytest

from services.extproc.config import ConfigError, parse
from tools.gateway.routes import MIB, Path, Routes

ROUTE = "routes: [{base_model: m, pools: [{pool: a}]}]\n"


def routes(text: str) -> Routes:
    return parse(text, Routes, name="routes.yaml")


def test_one_route_is_enough_and_the_rest_has_safe_defaults():
    """Nobody is trusted, nothing fails open, and bodies end at 16 MiB."""
    found = routes(ROUTE)
    assert found.edge.trusted_headers == ()
    assert not any(call.fail_open for call in (found.services.bbr, found.services.safety, found.services.epp))
    assert found.body_limit == found.largest_body == 16 * MIB
    assert found.routes[0].attempts == 3


def test_pools_are_listed_once_in_the_order_of_the_routes():
    """A pool that two routes share is one cluster."""
    found = routes(
        "routes: [{base_model: m, pools: [{pool: b}, {pool: a}]}, {model: n, pools: [{pool: a}, {pool: c}]}]"
    )
    assert found.pools == ("b", "a", "c")


def test_pools_of_mirrors_and_fallbacks_are_pools_too():
    """They need a cluster and the EPP's attention like any other."""
    found = routes(
        "routes: [{base_model: m, pools: [{pool: a}], fallbacks: [{pool: b}], mirrors: [{pool: c, percent: 1}]}]"
    )
    assert found.pools == ("a", "b", "c")
    assert found.has_legs


def test_a_route_with_more_conditions_may_stand_before_the_models_own():
    """The first that matches decides, so the order says which one is special."""
    found = routes(
        "routes: [{name: beta, base_model: m, headers: [{name: x-tier, exact: beta}], pools: [{pool: b}]},"
        " {base_model: m, pools: [{pool: a}]}]"
    )
    assert [route.name for route in found.routes] == ["beta", "m"]
    assert not found.has_legs


def test_limits_of_a_pool_are_its_own_or_the_default():
    """Nothing is limited by accident."""
    found = routes(ROUTE + "pool_limits: {a: {max_requests: 2}}")
    assert (found.limits("a").max_requests, found.limits("a").max_pending) == (2, 20000)
    assert found.limits("other").max_requests == 20000


def test_a_path_has_its_own_limit_or_the_files():
    """Retries may keep as much as the most generous path lets in."""
    found = routes(
        ROUTE + "body_limit: 2048\npaths: [{prefix: /v1/audio/, body_limit: 4096}, {prefix: /v1/}]"
    )
    assert [found.limit(path) for path in found.paths] == [4096, 2048]
    assert found.largest_body == 4096
    assert found.limit(Path(path="/x")) == 2048


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("routes: []", "$.routes", "length >= 1"),
        ("routes: [{base_model: m, pools: []}]", "$.routes[0].pools", "length >= 1"),
        ("routes: [{pools: [{pool: a}]}]", "$.routes[0]", "or else a `path` and its own `name`"),
        ("routes: [{path: {prefix: /x}, pools: [{pool: a}]}]", "$.routes[0]", "and its own `name`"),
        (
            "routes: [{name: n, headers: [{name: h, exact: v}], pools: [{pool: a}]}]",
            "$.routes[0]",
            "or else a `path`",
        ),
        (
            "routes: [{name: n, path: {prefix: /x}, pools: [{pool: a}], fallbacks: [{pool: b}]}]",
            "$.routes[0]",
            "routes with a model",
        ),
        (
            "routes: [{base_model: m, read_body: false, pools: [{pool: a}]}]",
            "$.routes[0]",
            "belong to routes without a model",
        ),
        (
            "routes: [{base_model: m, path: {prefix: /x, exact: /y}, pools: [{pool: a}]}]",
            "$.routes[0].path",
            "exactly one of exact, prefix, regex",
        ),
        ("routes: [{base_model: m, path: {exact: x}, pools: [{pool: a}]}]", "$.routes[0].path", "a slash"),
        (
            "routes: [{base_model: m, path: {regex: '(?=x)'}, pools: [{pool: a}]}]",
            "$.routes[0].path",
            "not RE2",
        ),
        (
            "routes: [{base_model: m, headers: [{name: h}], pools: [{pool: a}]}]",
            "$.routes[0].headers[0]",
            "the header h is matched by exactly one",
        ),
        (
            "routes: [{base_model: m, headers: [{name: X-Up, exact: a}], pools: [{pool: a}]}]",
            "$.routes[0].headers[0].name",
            "matching",
        ),
        ("routes: [{base_model: m, methods: [get], pools: [{pool: a}]}]", "$.routes[0].methods[0]", "'get'"),
        (
            "routes: [{base_model: m, pools: [{pool: a}], mirrors: [{pool: b, percent: 101}]}]",
            "$.routes[0].mirrors[0].percent",
            "<= 100",
        ),
        (
            "routes: [{base_model: m, pools: [{pool: a}], first_byte_seconds: 301}]",
            "$.routes[0]",
            "above `idle_timeout_seconds`",
        ),
        (ROUTE + "pool_limits: {b: {max_requests: 1}}", "routes.yaml", "the pool b, which no route names"),
        (ROUTE + "pool_limits: {a: {max_requests: 0}}", "$.pool_limits[...].max_requests", ">= 1"),
        ("routes: [{base_model: m, model: n, pools: [{pool: a}]}]", "$.routes[0]", "either"),
        ("routes: [{base_model: m, pools: [{pool: a}, {pool: a}]}]", "$.routes[0]", "named twice"),
        ("routes: [{base_model: m, pools: [{pool: a, weight: 0}]}]", "$.routes[0].pools[0].weight", ">= 1"),
        ("routes: [{base_model: m, pools: [{pool: 'a b'}]}]", "$.routes[0].pools[0].pool", "matching"),
        ("routes: [{base_model: m, pools: [{pol: a}]}]", "$.routes[0].pools[0]", "`pol`"),
        (ROUTE + "body_limit: 1e9999", "$.body_limit", "int"),
        (ROUTE + "paths: [{prefix: v1}]", "$.paths[0]", "starts with a slash"),
        (ROUTE + "paths: [{prefix: /v1/, path: /v1}]", "$.paths[0]", "either `path` or `prefix`"),
        (ROUTE + "edge: {trusted_headers: [authorization]}", "$.edge", "no control header"),
        (ROUTE + "edge: {trusted_headers: [x-gateway-model-name]}", "$.edge", "never taken from a client"),
        (
            ROUTE + "edge: {trusted_headers: [x-gateway-destination-endpoint-subset]}",
            "$.edge",
            "never taken from a client",
        ),
        (ROUTE + "services: {bbr: {fail_open: true}}", "$.services", "bbr cannot fail open"),
        (ROUTE + "services: {epp: {timeout_seconds: 9, max_timeout_seconds: 1}}", "$.services.epp", "below"),
        (
            "routes: [{base_model: m, pools: [{pool: a}]}, {base_model: m, pools: [{pool: b}]}]",
            "routes.yaml",
            "two routes named m",
        ),
        (
            "routes: [{base_model: m, pools: [{pool: a}]}, {name: n, base_model: m, methods: [GET], pools: [{pool: b}]}]",
            "routes.yaml",
            "the route n is never reached: m comes first",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_what_was_expected(text, place, expected):
    """A typo never becomes a default."""
    with pytest.raises(ConfigError) as refused:
        routes(text)
    assert place in str(refused.value)
    assert expected in str(refused.value)
