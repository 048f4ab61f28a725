"""docker-compose.yaml against what it mounts, builds, calls and must not open."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
BUILT = {name: service for name, service in SERVICES.items() if "build" in service}
every_service = pytest.mark.parametrize("name", SERVICES)
every_built = pytest.mark.parametrize("name", BUILT)


def values(tree: object, key: str) -> list[object]:
    """Return what stands under `key` anywhere in `tree`."""
    if isinstance(tree, dict):
        here = [tree[key]] if key in tree else []
        return here + [found for value in tree.values() for found in values(value, key)]
    return [found for item in tree for found in values(item, key)] if isinstance(tree, list) else []


@every_service
def test_image_is_pinned_to_a_version(name: str) -> None:
    """The same file means the same images next month."""
    assert re.search(r":v?\d+\.\d+\.\d+(-[a-z]+)?$", SERVICES[name]["image"])


def test_base_image_is_pinned_to_a_version() -> None:
    """A patch release of Python does not come in unseen."""
    assert re.search(r"^ARG PYTHON=python:3\.11\.\d+-slim-bookworm$", DOCKERFILE, re.MULTILINE)


@every_service
def test_container_is_contained(name: str) -> None:
    """No container runs as root, writes its file system, has capabilities, or more memory than it is given."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service.keys().isdisjoint({"privileged", "cap_add", "network_mode", "pid", "devices"})
    assert name in BUILT or not service["user"].startswith("0")


def test_images_of_ours_run_as_nobody() -> None:
    """The last user of the common stage is numeric and not root, which Kubernetes can check."""
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["65532:65532"]


def test_only_the_gateway_is_published() -> None:
    """One port, and without being asked for only on loopback; Envoy's admin port stays inside."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"envoy": ["${GATEWAY_ADDRESS:-127.0.0.1}:${GATEWAY_PORT:-8080}:8080"]}


@every_service
def test_mounts_exist_and_are_read_only(name: str) -> None:
    """A missing source would become an empty directory, without an error."""
    for mount in SERVICES[name].get("volumes", []):
        source, _, mode = mount.split(":")
        assert (ROOT / source).exists()
        assert mode == "ro"


@every_service
def test_what_is_waited_for_can_become_healthy(name: str) -> None:
    """Every dependency is a service, with a health check where its health is waited for."""
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        assert how["condition"] == "service_started" or other in BUILT or "healthcheck" in SERVICES[other]


@every_built
def test_built_image_has_a_stage_with_health_check_and_exec_entrypoint(name: str) -> None:
    """SIGTERM reaches the service, not a shell, and Docker sees when it is ready."""
    stage = BUILT[name]["build"]["args"]["SERVICE"]
    found = re.search(rf"^FROM runtime\S* AS {stage}\n(.*?)(?=^FROM )", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found
    module = "tools.model_server" if stage == "model_server" else f"services.{stage}"
    assert f'ENTRYPOINT ["python", "-m", "{module}"]' in found[1]
    assert 'CMD ["python", "probe.py", ' in found[1]


@every_built
def test_configuration_that_a_service_is_given_is_mounted(name: str) -> None:
    """`--config` names a file of config/."""
    command = BUILT[name]["command"]
    if "--config" in command:
        assert (ROOT / command[command.index("--config") + 1]).is_file()


def test_envoy_calls_services_that_exist_at_ports_that_they_open() -> None:
    """Every name and port in Envoy's configuration is a service of this file and a port that its image exposes."""
    config = yaml.safe_load((ROOT / "envoy/envoy.yaml").read_text())
    addresses = [one for one in values(config, "socket_address") if isinstance(one, dict)]
    named = {(one["address"], one["port_value"]) for one in addresses if one["address"].isalpha()}
    assert {name for name, _ in named} == {"bbr", "safety", "epp"}
    for name, port in named:
        stage = re.split(rf"FROM runtime\S* AS {name}\n", DOCKERFILE)[1]
        assert re.search(rf"^EXPOSE .*\b{port}\b", stage.partition("FROM ")[0], re.MULTILINE)


def test_endpoints_of_the_picker_are_the_model_servers() -> None:
    """The pools of config/epp.yaml name every model server of this file, at the port it listens on."""
    pools = yaml.safe_load((ROOT / "config/epp.yaml").read_text())["pools"]
    named = set(itertools.chain.from_iterable(pool["endpoints"] for pool in pools))
    servers = {
        name for name, service in BUILT.items() if service["build"]["args"]["SERVICE"] == "model_server"
    }
    assert named == {f"http://{name}:8000" for name in servers}
    assert all(
        "--port=8000" in BUILT[name]["command"] and f"--name={name}" in BUILT[name]["command"]
        for name in servers
    )


def test_what_the_images_copy_is_let_into_the_build() -> None:
    """.dockerignore shuts out everything but the sources of the COPY lines."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE)
    assert copied
    for source in copied:
        assert any(source == entry or source.startswith(f"{entry}/") for entry in allowed)
        assert (ROOT / source).exists()


@pytest.mark.parametrize("service", ["bbr", "safety", "epp"])
def test_an_image_has_every_package_that_its_service_imports(service: str) -> None:
    """A shared package that is new has to be copied too."""
    below, found = [service, "extproc", "openai"], {service, "extproc", "openai", "pb"}
    if f"FROM runtime-kv-events AS {service}\n" in DOCKERFILE:
        below, found = [*below, "tokens"], found | {"tokens"}
    sources = [path.read_text() for folder in below for path in (ROOT / "services" / folder).rglob("*.py")]
    imported = re.findall(r"^(?:from|import) services\.(\w+)", "\n".join(sources), re.MULTILINE)
    assert set(imported) <= found
