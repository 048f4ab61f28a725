"""Several replicas of the endpoint picker behind one Envoy: all are used, and any of them can be lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.gateway.stack import BASE, Parts
from tests.e2e.harness.wait import wait_until

pytestmark = pytest.mark.e2e

REPLICAS = ("epp", "epp-2", "epp-3")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    parts = Parts(tmp_path_factory.mktemp("replicas"), epp_replicas=len(REPLICAS))
    try:
        parts.start_all()
        wait_until(lambda: healthy(parts) == len(REPLICAS), "Envoy finds every replica healthy", deadline=90)
        wait_until(lambda: status(parts) == 200, "the gateway works")
        yield parts
    finally:
        parts.kill_all()


def status(parts: Parts) -> int:
    """Return the status of a request; 0 while Envoy does not listen, for which it waits for the pools' members."""
    try:
        return parts.gateway.chat("hello").status_code
    except httpx.TransportError:
        return 0


def healthy(parts: Parts) -> int:
    """Return how many replicas Envoy would send picks to."""
    try:
        return parts.gateway.envoy_stat("cluster.epp.membership_healthy")
    except httpx.TransportError:
        return 0


def answers(parts: Parts, name: str) -> bool:
    try:
        return parts.gateway.metric(name, "inference_pool_ready_pods") >= 0
    except httpx.TransportError:
        return False


def picks(parts: Parts) -> dict[str, float]:
    """Return the picks of each replica."""
    return {
        name: parts.gateway.metric(name, "inference_extension_scheduler_attempts_total") for name in REPLICAS
    }


async def load(parts: Parts, count: int, *, at: int | None = None, victim: str = "") -> Counter[int]:
    """Send `count` requests, sixteen at a time; when number `at` is sent, kill `victim`."""
    slots, seen = asyncio.Semaphore(16), Counter[int]()
    async with httpx.AsyncClient(timeout=30) as http:

        async def one(number: int) -> None:
            async with slots:
                if number == at:
                    parts.kill(victim)
                body = {
                    "model": BASE,
                    "max_tokens": 30,
                    "messages": [{"role": "user", "content": f"{number}"}],
                }
                answer = await http.post(f"{parts.gateway.gateway}/v1/chat/completions", json=body)
                seen[answer.status_code] += 1

        await asyncio.gather(*(one(number) for number in range(count)))
    return seen


async def test_every_replica_gets_its_share(parts):
    """The streams that stay open, for members and the access log, do not keep the picks away from their replica.

    Were they counted with the picks, that replica would get a tenth of them.
    """
    await load(parts, 150)  # opens connections, during which the others get more
    before = picks(parts)
    assert await load(parts, 150) == {200: 150}
    shares = [count - before[name] for name, count in picks(parts).items()]
    assert sum(shares) == 150
    assert min(shares) > 25


@pytest.mark.parametrize("victim", REPLICAS)
async def test_a_replica_that_is_killed_costs_no_request(parts, victim):
    """Those that it had not answered are asked again of another; it gets its share when it is back."""
    try:
        assert await load(parts, 150, at=50, victim=victim) == {200: 150}
    finally:
        parts.start(victim)
        # Envoy may not even have noticed that it was away.
        wait_until(lambda: answers(parts, victim), "the replica is back")
        wait_until(lambda: healthy(parts) == len(REPLICAS), "Envoy finds it healthy")
