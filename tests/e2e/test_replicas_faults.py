"""Whatever happens to Redis, the gateway goes on, says so, and its replicas agree again: real processes throughout."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import httpx
import msgspec
import pytest
from grpc_health.v1 import health_pb2
from redis import Redis

from services.epp.state.join import HEALTH
from services.epp.state.lease import stream_key
from tests.e2e.gateway.stack import BASE, Parts
from tests.e2e.harness.wait import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

REPLICAS = ("epp", "epp-2")
STREAM = stream_key("igw", "llama")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(tmp_path_factory.mktemp("faults"), epp_replicas=len(REPLICAS))
    try:
        parts.start_all()
        agree(parts)
        wait_until(lambda: ask(parts, 1) == {200: 1}, "the gateway works", deadline=90)
        yield parts
    finally:
        parts.kill_all()


@pytest.fixture
def redis(parts: Parts) -> Iterator[Redis]:
    """Return a connection that was there before the fault."""
    with Redis(port=parts.plan.ports.redis, socket_timeout=30) as client:
        client.ping()
        yield client


def ask(parts: Parts, count: int) -> Counter[int]:
    """Send `count` different requests, eight at a time, and return their statuses."""
    slots, seen = asyncio.Semaphore(8), Counter[int]()

    async def one(http: httpx.AsyncClient, number: int) -> None:
        text = f"question {number} " * 30
        body = {"model": BASE, "max_tokens": 8, "messages": [{"role": "user", "content": text}]}
        async with slots:
            seen[
                (await http.post(f"{parts.gateway.gateway}/v1/chat/completions", json=body)).status_code
            ] += 1

    async def everything() -> None:
        async with httpx.AsyncClient(timeout=30) as http:
            await asyncio.gather(*(one(http, number) for number in range(count)))

    with contextlib.suppress(httpx.TransportError):  # Envoy does not listen yet
        asyncio.run(everything())
    return seen


def figures(parts: Parts, name: str) -> list[float]:
    """Return a metric of each replica; nothing while one is away."""
    try:
        return [parts.gateway.metric(replica, name) for replica in REPLICAS]
    except httpx.TransportError:
        return []


def agree(parts: Parts) -> None:
    """Wait until all replicas reach Redis, find each other, and know the same number of prefixes."""
    names = ("epp_redis_up", "epp_state_replicas", "epp_prefix_blocks")
    wait_until(
        lambda: in_step(parts),
        lambda: f"the replicas agree: { ({name: figures(parts, name) for name in names}) }",
        deadline=60,
    )


def in_step(parts: Parts) -> bool:
    blocks = figures(parts, "epp_prefix_blocks")
    return (
        figures(parts, "epp_redis_up") == [1, 1]
        and set(figures(parts, "epp_state_replicas"))
        == {4 * len(REPLICAS)}  # in each of the demo's four pools
        and len(set(blocks)) == 1
    )


def health(parts: Parts, replica: str) -> int:
    """Return what gRPC health says of the replica's way to Redis."""
    ports = parts.plan.service_ports[replica]
    with grpc.insecure_channel(f"127.0.0.1:{ports.health}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        status: int = check(health_pb2.HealthCheckRequest(service=HEALTH), timeout=10).status
        return status


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to Redis and how it ends."""

    begin: Callable[[Parts, Redis], object]
    end: Callable[[Parts, Redis], object]


def lock(_: Parts, redis: Redis) -> None:
    redis.config_set("requirepass", "unknown")
    redis.client_kill_filter(_type="normal", skipme=True)


FAULTS = {
    "stopped": Fault(lambda parts, _: parts.kill("redis"), lambda parts, _: parts.start("redis")),
    "frozen": Fault(
        lambda parts, _: parts.signal("redis", signal.SIGSTOP),
        lambda parts, _: parts.signal("redis", signal.SIGCONT),
    ),
    "full": Fault(
        lambda _, redis: redis.config_set("maxmemory", 1),
        lambda _, redis: redis.config_set("maxmemory", 0),
    ),
    "read-only": Fault(
        lambda _, redis: redis.replicaof("127.0.0.1", 1),
        lambda _, redis: redis.replicaof("NO", "ONE"),
    ),
    "refusing": Fault(lock, lambda _, redis: redis.config_set("requirepass", "")),
}


def test_a_replica_that_starts_again_knows_what_the_others_know(parts):
    """It takes requests only when it has read what they told. The first test: later ones lose what was in Redis."""
    assert ask(parts, 30) == {200: 30}
    agree(parts)
    known = figures(parts, "epp_prefix_blocks")
    parts.kill("epp-2")
    try:
        wait_until(
            lambda: parts.gateway.metric("epp", "epp_state_replicas") == 4,  # itself, in four pools
            "the other finds itself alone",
        )
        assert ask(parts, 30) == {200: 30}
    finally:
        parts.start("epp-2")
    agree(parts)
    assert figures(parts, "epp_prefix_blocks")[1] >= known[1] > 0


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_gateway_goes_on_without_redis_and_heals_by_itself(parts, redis, fault):
    """Every request is answered; each replica says in metric, health and one line of its log that it stands alone."""
    before = [parts.log(replica).count("redis_unreachable") for replica in REPLICAS]
    fault.begin(parts, redis)
    try:
        assert ask(parts, 30) == {200: 30}
        wait_until(lambda: figures(parts, "epp_redis_up") == [0, 0], "both replicas say so")
        assert [health(parts, replica) for replica in REPLICAS] == [
            health_pb2.HealthCheckResponse.NOT_SERVING
        ] * 2
        assert ask(parts, 30) == {200: 30}
    finally:
        fault.end(parts, redis)
    agree(parts)
    assert [health(parts, replica) for replica in REPLICAS] == [health_pb2.HealthCheckResponse.SERVING] * 2
    lines = [parts.log(replica).count("redis_unreachable") for replica in REPLICAS]
    assert [now - then for now, then in zip(lines, before, strict=True)] == [1, 1]
    assert ask(parts, 30) == {200: 30}


def test_a_redis_that_comes_back_empty_is_filled_again(parts):
    """The replicas go on with each other as before, and one that starts then can learn from it."""
    parts.kill("redis")
    parts.start("redis")
    assert ask(parts, 30) == {200: 30}
    agree(parts)
    with Redis(port=parts.plan.ports.redis) as redis:
        assert redis.xlen(STREAM) > 0
        wait_until(
            lambda: len(list(redis.scan_iter("igw:{llama}:lease:*"))) == len(REPLICAS), "both hold a lease"
        )


def test_what_nobody_understands_is_counted_and_left_out(parts, redis):
    """Garbage, another version, another field: no request and no replica suffers."""
    unknown = msgspec.msgpack.encode([999, "somebody", 1, False])
    for fields in ({"b": b"\xc1garbage"}, {"b": unknown}, {"other": b"field"}):
        redis.xadd(STREAM, fields)
    wait_until(lambda: figures(parts, "epp_state_unreadable_total") == [3, 3], "both have seen all three")
    assert ask(parts, 30) == {200: 30}
    agree(parts)


def test_an_envoy_that_is_killed_has_nothing_in_flight_at_any_replica(parts):
    """Those that held no stream of it are told by those that did. No server can say that it runs nothing any more."""
    servers = [command.name for command in parts.plan.servers]
    wait_until(lambda: sum(figures(parts, "epp_inflight_requests")) == 0, "nothing is in flight")
    for server in servers:
        parts.signal(server, signal.SIGSTOP)
    asking = threading.Thread(target=ask, args=(parts, 8))
    asking.start()
    try:
        wait_until(lambda: sum(figures(parts, "epp_inflight_requests")) == 8, "all of them are in flight")
        parts.kill("envoy")
        wait_until(lambda: figures(parts, "epp_inflight_requests") == [0, 0], "nobody counts them any more")
        assert sum(releases(parts, replica, "proxy_gone") for replica in REPLICAS) == 8
    finally:
        for server in servers:
            parts.signal(server, signal.SIGCONT)
        asking.join()
        parts.start("envoy")
    wait_until(lambda: ask(parts, 1) == {200: 1}, "the gateway works", deadline=90)


def releases(parts: Parts, replica: str, by: str) -> float:
    """Return how many requests a replica took off for this reason."""
    text = httpx.get(parts.gateway.metrics[replica]).text
    found = re.findall(rf'^epp_releases_total{{by="{by}",pool="llama"}} (\S+)$', text, re.MULTILINE)
    return sum(map(float, found))
