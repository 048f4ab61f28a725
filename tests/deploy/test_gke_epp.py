"""deploy/gke/epp.yaml against the program that it runs and the Envoy that finds it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
import yaml

from services.epp.app import main
from services.epp.config import EndpointPickerConfig
from services.extproc.config import load
from tools.gateway.envoy.addresses import COMPOSE
from tools.gateway.envoy.clusters import service_cluster

ROOT = Path(__file__).parents[2]
DEPLOYMENT, SERVICE, BUDGET = yaml.safe_load_all((ROOT / "deploy/gke/epp.yaml").read_text())
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_there_are_several_replicas_and_never_fewer():
    """Not during an update either, and a drained node takes one at a time."""
    assert DEPLOYMENT["spec"]["replicas"] > 1
    assert DEPLOYMENT["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert BUDGET["spec"]["maxUnavailable"] == 1


def test_the_url_of_redis_comes_from_a_secret():
    """By the variable that the program reads, and in no argument, which everybody may see."""
    (variable,) = CONTAINER["env"]
    option = next(one for one in main.params if one.name == "redis")
    assert variable["name"] == option.envvar
    assert set(variable["valueFrom"]) == {"secretKeyRef"}
    assert "--redis" not in CONTAINER["args"]
    assert "redis://" not in yaml.safe_dump(DEPLOYMENT)


def test_the_arguments_are_the_programs():
    """Whatever it does not know it would refuse at start."""
    context = main.make_context("epp", list(CONTAINER["args"]), resilient_parsing=False)
    assert context.params["host"] == "0.0.0.0"
    with pytest.raises(click.NoSuchOption):
        main.make_context("epp", [*CONTAINER["args"], "--replicas", "3"])


def test_the_ports_are_those_of_the_configuration():
    """The probes' too."""
    listen = load(ROOT / "config/epp.yaml", EndpointPickerConfig).listen
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"grpc": listen.port, "health": listen.health_port, "metrics": listen.metrics_port}
    probes = [CONTAINER[name]["grpc"] for name in ("readinessProbe", "livenessProbe", "startupProbe")]
    assert [(probe["port"], probe["service"]) for probe in probes] == [
        (listen.health_port, "readiness"),
        (listen.health_port, "liveness"),
        (listen.health_port, "liveness"),
    ]


def test_every_pod_is_an_address_of_the_name_that_envoy_resolves():
    """As in compose, where `--scale epp=3` makes several."""
    assert SERVICE["spec"]["clusterIP"] == "None"
    assert (SERVICE["metadata"]["name"], SERVICE["spec"]["ports"][0]["port"]) == (
        COMPOSE.epp.host,
        COMPOSE.epp.port,
    )
    assert SERVICE["spec"]["selector"].items() <= DEPLOYMENT["spec"]["template"]["metadata"]["labels"].items()
    assert service_cluster("epp", COMPOSE.epp).to_dict()["type"] == "STRICT_DNS"


def test_the_container_is_contained():
    """As in compose."""
    context = CONTAINER["securityContext"]
    assert (context["readOnlyRootFilesystem"], context["runAsNonRoot"], context["capabilities"]) == (
        True,
        True,
        {"drop": ["ALL"]},
    )
    assert context["allowPrivilegeEscalation"] is False
    assert CONTAINER["resources"]["limits"]["memory"]


def test_in_compose_the_picker_can_be_scaled():
    """Nothing of it is there once: no fixed name, no published port."""
    epp = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["epp"]
    assert {"container_name", "ports", "hostname"}.isdisjoint(epp)
    assert "redis" in epp["depends_on"]
