from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.gateway.binaries import find
from tools.gateway.checks import read_routes
from tools.gateway.envoy.addresses import COMPOSE, AddressBook
from tools.gateway.envoy.bootstrap import build, from_yaml, to_json, to_yaml
from tools.gateway.ports import Ports
from tools.gateway.routes import Edge, EppCall, Routes, ServiceCall, Services

ROOT = Path(__file__).parents[3]
ENVOY_YAML = ROOT / "envoy" / "envoy.yaml"


@pytest.fixture(scope="module")
def routes() -> Routes:
    return read_routes(ROOT / "config" / "routes.yaml")


def validate(path: Path) -> None:
    command = [str(find().envoy), "--mode", "validate", "--log-level", "error", "-c", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_readable_file_says_what_the_builder_builds(routes):
    """envoy/envoy.yaml is written by hand for people; neither may know what the other does not."""
    assert from_yaml(ENVOY_YAML.read_text()).to_dict() == build(routes, COMPOSE).to_dict()


@pytest.mark.e2e
def test_the_readable_file_is_valid():
    """By the judgement of the real binary."""
    validate(ENVOY_YAML)


@pytest.mark.e2e
@pytest.mark.parametrize("addresses", [COMPOSE, Ports.at(offset=13350).addresses()], ids=["compose", "local"])
def test_what_the_builder_builds_is_valid(routes, addresses: AddressBook, tmp_path):
    """With names and with addresses."""
    path = tmp_path / "envoy.json"
    path.write_text(to_json(build(routes, addresses)))
    validate(path)


def test_streams_that_stay_open_are_not_counted_with_the_picks(routes):
    """Else the balancer would keep the picks away from the replica that has them."""
    built = build(routes, Ports.at().addresses(replicas=2)).to_dict()["staticResources"]
    control = json.dumps([*_found(built, "accessLog"), *_found(built, "edsClusterConfig")])
    assert set(re.findall(r'"clusterName": "(.*?)"', control)) == {"epp-control"}
    picks, others = ([c for c in built["clusters"] if c["name"] == name] for name in ("epp", "epp-control"))
    hosts = [str(cluster["loadAssignment"]["endpoints"]) for cluster in (*picks, *others)]
    assert hosts[0] == hosts[1]
    assert all(port in hosts[0] for port in ("9002", "9200"))


def _found(value: object, key: str) -> Iterator[object]:
    """Yield everything under `key`, at any depth."""
    if isinstance(value, dict):
        yield from (value[name] for name in value if name == key)
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _found(child, key)


@pytest.mark.e2e
def test_every_switch_of_the_routes_is_valid(routes, tmp_path):
    """Fail-open, nobody trusted, one attempt, unchecked answers, requests that can be taken back."""
    open_services = Services(
        safety=ServiceCall(timeout_seconds=0.5, fail_open=True), epp=EppCall(fail_open=True, evictable=True)
    )
    other = Routes(
        routes=tuple(
            type(route)(base_model=route.name, pools=route.pools, attempts=1, check_answers=False)
            for route in routes.routes
        ),
        edge=Edge(),
        services=open_services,
    )
    path = tmp_path / "envoy.json"
    path.write_text(to_json(build(other, COMPOSE)))
    validate(path)


def test_yaml_and_objects_say_the_same(routes):
    """`render` prints the one and `up` runs the other."""
    built = build(routes, COMPOSE)
    assert from_yaml(to_yaml(built)).to_dict() == built.to_dict()
