from __future__ import annotations

from typing import Any

from tools.gateway.conditions import HeaderCondition, PathCondition
from tools.gateway.envoy.addresses import COMPOSE
from tools.gateway.envoy.bootstrap import build, to_json
from tools.gateway.envoy.legs import leg_table
from tools.gateway.envoy.routing import route_configuration
from tools.gateway.routes import BbrCall, Fallback, Mirror, Path, Route, Routes, Services, Share

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


def named(name: str, routes: Routes = ROUTES) -> dict[str, Any]:
    """Return the last route of that name: the one for requests that BBR did not rename."""
    return [route for route in built(routes) if route["name"] == name][-1]


def test_refusals_come_first_then_models_then_the_way_to_bbr_then_404():
    """The first route that matches decides; a model's route is there for renamed requests and for the others."""
    assert [route["name"] for route in built()] == [
        *("denied", "adapter", "adapter", "base", "base", "unrouted", "unrouted", "not-found")
    ]


def test_only_a_renamed_requests_answer_passes_bbr_again():
    """Every other request pays nothing for it."""
    renamed, plain = (route for route in built() if route["name"] == "base")
    assert {"name": "x-gateway-client-model-name", "presentMatch": True} in renamed["match"]["headers"]
    assert "bbr-response" in renamed["typedPerFilterConfig"]
    assert "bbr-response" not in plain.get("typedPerFilterConfig", {})
    (host,) = route_configuration(ROUTES).to_dict()["virtualHosts"]
    assert host["typedPerFilterConfig"]["bbr-response"]["disabled"] is True


def test_response_plugins_can_have_every_answer():
    """Then a model's route is there once, with BBR on the way back."""
    services = Services(bbr=BbrCall(answers="all"))
    found = built(Routes(routes=ROUTES.routes, services=services))
    (route,) = (route for route in found if route["name"] == "base")
    assert "bbr-response" in route["typedPerFilterConfig"]
    assert len(route["match"]["headers"]) == 1


def test_all_conditions_of_a_route_are_matched():
    """Model, path, methods and headers together."""
    entry = Route(
        name="all",
        base_model="m",
        path=PathCondition(regex="/v1/(chat|embeddings).*"),
        methods=("GET", "POST"),
        headers=(
            HeaderCondition(name="x-tier", exact="beta"),
            HeaderCondition(name="x-team", prefix="red-"),
            HeaderCondition(name="x-trial", regex="[0-9]+"),
            HeaderCondition(name="x-internal", present=False),
        ),
        pools=(Share(pool="a"),),
    )
    assert named("all", Routes(routes=(entry,)))["match"] == {
        "safeRegex": {"regex": "/v1/(chat|embeddings).*"},
        "headers": [
            {"name": "x-gateway-base-model-name", "stringMatch": {"exact": "m"}},
            {"name": ":method", "stringMatch": {"safeRegex": {"regex": "GET|POST"}}},
            {"name": "x-tier", "stringMatch": {"exact": "beta"}},
            {"name": "x-team", "stringMatch": {"prefix": "red-"}},
            {"name": "x-trial", "stringMatch": {"safeRegex": {"regex": "[0-9]+"}}},
            {"name": "x-internal", "presentMatch": False},
        ],
    }


def test_a_route_without_a_model_is_there_once_and_may_do_without_bbr():
    """It matches before BBR has spoken, so it carries its own limit."""
    entry = Route(
        name="files",
        path=PathCondition(prefix="/v1/files"),
        pools=(Share(pool="a"),),
        read_body=False,
        body_limit=2048,
    )
    found = built(Routes(routes=(entry,)))
    (route,) = (route for route in found if route["name"] == "files")
    assert route["requestBodyBufferLimit"] == 2048
    assert route["typedPerFilterConfig"]["bbr"]["disabled"] is True


def test_no_retry_ever_covers_what_a_server_has_begun():
    """Neither a status nor a broken answer is among the conditions, on any route and leg."""
    legs = Route(
        base_model="legs",
        pools=(Share(pool="a"),),
        fallbacks=(Fallback(pool="b"),),
        mirrors=(Mirror(pool="c", percent=1),),
        first_byte_seconds=2,
    )
    routes = Routes(routes=(*ROUTES.routes, legs))
    hosts = [
        *route_configuration(routes).to_dict()["virtualHosts"],
        *leg_table(routes).to_dict()["virtualHosts"],
    ]
    policies = [
        policy
        for host in hosts
        for route in host["routes"]
        if (policy := route.get("route", {}).get("retryPolicy"))
    ]
    assert len(policies) == 7
    assert {condition for policy in policies for condition in policy["retryOn"].split(",")} == {
        *("connect-failure", "refused-stream", "reset-before-request", "retriable-headers")
    }
    marks = [policy["retriableHeaders"] for policy in policies if "retriableHeaders" in policy]
    assert marks == [[{"name": "x-gateway-fallback", "presentMatch": True}]] * 2


def test_a_deadline_without_retries_is_still_a_deadline():
    """One attempt has one."""
    entry = Route(base_model="m", pools=(Share(pool="a"),), attempts=1, first_byte_seconds=2.5)
    policy = named("m", Routes(routes=(entry,)))["route"]["retryPolicy"]
    assert policy["perTryTimeout"] == "2.500s"
    assert policy.get("numRetries", 0) == 0
    assert "retryOn" not in policy


def test_without_mirrors_and_fallbacks_there_is_nothing_of_legs():
    """No listener, no cluster, no attempt count for servers to see."""
    assert "legs" not in to_json(build(ROUTES, COMPOSE))
    assert "includeRequestAttemptCount" not in to_json(build(ROUTES, COMPOSE))


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
