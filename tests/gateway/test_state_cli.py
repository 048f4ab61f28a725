"""`inference-gateway state` against a real Redis-protocol server that holds what replicas write."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from services.epp.state.lease import EndpointShare, Lease, encode_lease, lease_key, stream_key
from tests.e2e.harness.wait import wait_until
from tests.gateway.stubs import free_ports
from tools.gateway.binaries import find
from tools.gateway.cli import main
from tools.gateway.probes import pongs

A, B = "10.0.0.1:8000", "10.0.0.2:8000"


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[int]:
    """Run a server on a port."""
    (port,) = free_ports(1)
    command = [str(find().redis), "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: asyncio.run(pongs(port)), "the server answers")
            yield port
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("redis")) as port:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def redis(server: str) -> Iterator[Redis]:
    with Redis.from_url(server) as client:
        client.flushall()
        yield client


def share(endpoint: str, *, requests: int, matched: int, scrapes: bool = False) -> EndpointShare:
    return EndpointShare(
        endpoint, requests, 10, 20, 30, 5, prompt_bytes=1000, matched_bytes=matched, scrapes=scrapes
    )


def lease(owner: str, *endpoints: EndpointShare) -> Lease:
    return Lease(
        owner=owner,
        name=f"host/{owner}",
        up_seconds=12.5,
        degraded_seconds=1.5,
        lag_seconds=0.004,
        dropped=7,
        endpoints=endpoints,
    )


def put(redis: Redis, pool: str, *leases: Lease) -> None:
    for one in leases:
        redis.set(lease_key("igw", pool, one.owner), encode_lease(one), px=3000)


def state(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["state", url, *arguments], env={"COLUMNS": "200"})


def test_every_pool_has_its_replicas_and_its_servers_sums(server, redis):
    """What one replica has in flight at a server is added to what the others have there."""
    put(
        redis,
        "llama",
        lease("a", share(A, requests=2, matched=500, scrapes=True), share(B, requests=1, matched=0)),
        lease("b", share(A, requests=3, matched=1000)),
    )
    put(redis, "gemma", lease("a"))
    for _ in range(4):
        redis.xadd(stream_key("igw", "llama"), {"b": b"x"})
    gemma, llama = json.loads(state(server, "--json").output)
    assert (gemma["pool"], gemma["stream_entries"], gemma["endpoints"]) == ("gemma", 0, [])
    assert [(one["name"], one["requests"], one["picks"]) for one in llama["replicas"]] == [
        ("host/a", 3, 10),
        ("host/b", 3, 5),
    ]
    assert 0 < llama["replicas"][0]["lease_seconds"] <= 3
    assert llama["stream_entries"] == 4
    assert llama["stream_age_seconds"] < 60
    first, second = llama["endpoints"]
    assert (first["endpoint"], first["requests"], first["hit_rate"]) == (A, 5, 0.75)
    assert (first["scraped_by"], second["scraped_by"], second["hit_rate"]) == (["host/a"], [], 0.0)


def test_the_tables_say_the_same(server, redis):
    """For people: percent and milliseconds."""
    put(redis, "llama", lease("a", share(A, requests=2, matched=500, scrapes=True)))
    lines = [" ".join(line.split()) for line in state(server).output.splitlines()]
    assert "llama: 0 entries in the stream, 0.0 MB" in lines
    assert any(line.startswith("host/a a 12 ") and line.endswith(" 2 5 4.0 1.5 7") for line in lines)
    assert f"{A} 2 10 20 5 50.0% host/a" in lines


def test_other_gateways_keys_are_left_alone(server, redis):
    """Another prefix is another gateway."""
    put(redis, "llama", lease("a"))
    assert "no replica of the endpoint picker shares anything" in state(server, "--prefix", "other").output
    redis.set("igw:plain", "x")
    assert [pool["pool"] for pool in json.loads(state(server, "--json").output)] == ["llama"]


def test_a_lease_that_cannot_be_read_is_named(server, redis):
    """It may be of another version; the others are shown."""
    put(redis, "llama", lease("a"))
    redis.set(lease_key("igw", "llama", "new"), b"\xff")
    (llama,) = json.loads(state(server, "--json").output)
    assert [one["owner"] for one in llama["replicas"]] == ["a"]
    assert llama["unreadable"][0].startswith("igw:{llama}:lease:new: ")


def test_a_pool_whose_replicas_are_gone_is_still_told_of(server, redis):
    """The stream outlives them, for those that come."""
    redis.xadd(stream_key("igw", "llama"), {"b": b"x"})
    assert "no replica holds a lease" in state(server).output


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "nonsense"])
def test_what_cannot_be_reached_is_one_sentence(url):
    """No stack trace."""
    result = state(url)
    assert result.exit_code == 1
    assert result.output.startswith("Error: cannot read the state: ")
    assert result.output.count("\n") == 1


def test_the_address_may_come_from_the_environment(server, redis):
    """A password belongs in no list of processes."""
    put(redis, "llama", lease("a"))
    result = CliRunner().invoke(main, ["state", "--json"], env={"INFERENCE_GATEWAY_REDIS": server})
    assert result.exit_code == 0, result.output
    assert "host/a" in result.output


def test_a_cluster_is_read_like_one_server(tmp_path):
    """All keys of a pool have one hash tag; pools may be on different nodes."""
    (bus,) = free_ports(1)
    with (
        serving(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(bus)) as port,
        Redis(port=port) as node,
    ):
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(
            lambda: node.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster is one"
        )
        put(node, "llama", lease("a", share(A, requests=2, matched=500)))
        put(node, "gemma", lease("b"))
        found = json.loads(state(f"redis+cluster://127.0.0.1:{port}", "--json").output)
    assert [(pool["pool"], [one["owner"] for one in pool["replicas"]]) for pool in found] == [
        ("gemma", ["b"]),
        ("llama", ["a"]),
    ]
