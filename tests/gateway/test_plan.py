from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tools.gateway.binaries import Binaries
from tools.gateway.demo import SERVERS
from tools.gateway.plan import Options, Plan, PlanError, make_plan, parse_endpoints

POOLS = ("llama", "gemma", "gemma-new", "deepseek")
BINARIES = Binaries(envoy=Path("/opt/envoy"), redis=Path("/opt/valkey"))


def plan(
    *endpoints: str,
    pools: tuple[str, ...] = POOLS,
    redis: str | None = None,
    offset: int = 0,
    replicas: int = 1,
) -> Plan:
    options = Options(Path("conf"), 8080, offset, endpoints, redis, "warning", replicas)
    return make_plan(options, pools, BINARIES, Path("run"))


def values(argv: tuple[str, ...], flag: str) -> list[str]:
    return [value for name, value in itertools.pairwise(argv) if name == flag]


def test_the_demo_has_two_llamas_and_one_server_for_each_other_pool():
    """Pools, names and adapters of the demo are in one place."""
    found = plan()
    assert [command.name for command in found.servers] == [server.name for server in SERVERS]
    assert found.endpoints["llama"] == ("http://127.0.0.1:8101", "http://127.0.0.1:8102")
    assert {pool: len(urls) for pool, urls in found.endpoints.items()} == {
        "llama": 2,
        "gemma": 1,
        "gemma-new": 1,
        "deepseek": 1,
    }


def test_a_server_gets_its_model_and_adapters():
    """The mock's command line says what it serves."""
    argv = plan(offset=10).servers[1].argv
    assert values(argv, "--port") == ["8112"]
    assert values(argv, "--model") == ["llama-3.1-8b-instruct"]
    assert values(argv, "--adapter") == ["food-review", "cad-fabricator"]


def test_real_endpoints_take_the_place_of_that_pools_mocks_only():
    """The other pools keep theirs, on ports without gaps."""
    found = plan("llama=http://10.0.0.1:8000", "llama=http://10.0.0.2:8000/")
    assert found.endpoints["llama"] == ("http://10.0.0.1:8000", "http://10.0.0.2:8000")
    assert [command.name for command in found.servers] == ["gemma-1", "gemma-new-1", "deepseek-1"]
    assert found.server_urls[0] == "http://127.0.0.1:8101"


def test_a_pool_that_the_demo_does_not_know_is_left_to_the_epps_configuration():
    """`up` starts nothing for it and tells the EPP nothing of it."""
    found = plan(pools=("mine",))
    assert found.servers == ()
    assert values(found.services[2].argv, "--endpoint") == []


def test_the_epp_alone_is_told_endpoints_and_redis():
    """The services know nothing of each other's affairs."""
    bbr, safety, epp = plan().services
    assert values(epp.argv, "--redis") == ["redis://127.0.0.1:6390/0"]
    assert values(epp.argv, "--endpoint")[0] == "llama=http://127.0.0.1:8101"
    for service in (bbr, safety):
        assert not {"--redis", "--endpoint"} & set(service.argv)


@pytest.mark.parametrize(("index", "name", "ports"), [(0, "bbr", ["9004", "9005", "9094"])])
def test_a_service_gets_its_config_and_ports(index, name, ports):
    """Flags override the file, so the file's ports may stay."""
    argv = plan().services[index].argv
    assert values(argv, "--config") == [str(Path("conf") / f"{name}.yaml")]
    flags = ("--port", "--health-port", "--metrics-port")
    assert [value for flag in flags for value in values(argv, flag)] == ports
    assert values(argv, "--log-level") == ["warning"]


def test_a_redis_of_ones_own_replaces_the_embedded_one():
    """Nothing is started, and its port need not be free."""
    found = plan(redis="redis://10.0.0.9:6379")
    assert found.redis_command is None
    assert found.redis_url == "redis://10.0.0.9:6379"
    assert "redis" not in dict(found.run_ports)


def test_replicas_differ_in_their_ports_alone():
    """One configuration, the same pools, the same Redis; each can be lost."""
    _, _, *epps = plan(replicas=3, offset=10).services
    assert [command.name for command in epps] == ["epp", "epp-2", "epp-3"]
    assert [values(command.argv, "--port") for command in epps] == [["9012"], ["9210"], ["9213"]]
    assert [values(command.argv, "--metrics-port") for command in epps] == [["9102"], ["9212"], ["9215"]]
    for flag in ("--config", "--endpoint", "--redis"):
        assert values(epps[0].argv, flag) == values(epps[2].argv, flag) != []
    assert [command.spare for command in plan(replicas=2).services] == [False, False, True, True]
    assert not any(command.spare for command in plan().services)


def test_envoy_gets_every_replicas_address():
    """One cluster with so many endpoints; and the ports must be free."""
    found = plan(replicas=3)
    addresses = found.addresses()
    assert [address.port for address in (addresses.epp, *addresses.more_epps)] == [9002, 9200, 9203]
    assert {"epp-3", "epp-3's health", "epp-3's metrics"} < set(dict(found.run_ports))


def test_replicas_that_share_nothing_get_no_redis():
    """An empty address overrides what the configuration may say."""
    found = plan(redis="off", replicas=2)
    assert (found.redis_command, found.redis_url) == (None, "")
    assert [values(command.argv, "--redis") for command in found.services[2:]] == [[""], [""]]


@pytest.mark.parametrize(
    "value",
    [
        "llama",
        "llama=",
        "llama=10.0.0.1:8000",
        "llama=https://a:1",
        "llama=http://a",
        "llama=http://a:b",
        "llama=http://a:1/v1",
        "nowhere=http://a:1",
        "=http://a:1",
    ],
)
def test_an_endpoint_that_cannot_be_used_is_quoted_back(value):
    """Before anything starts."""
    with pytest.raises(PlanError, match=rf"--endpoint {value}"):
        parse_endpoints((value,), POOLS)
