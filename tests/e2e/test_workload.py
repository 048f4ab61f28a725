"""Several hundred requests of a seeded workload: what routing by prefix is worth, in the servers' own words."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.gateway.stack import BASE, Gateway
from tools.workload import mooncake
from tools.workload.conversations import Shape, conversations
from tools.workload.mooncake import Scale
from tools.workload.prefixes import ideal_hits, random_hits, text_prompt
from tools.workload.replay import Answer, Client, measured_hits, replay, servers
from tools.workload.requests import TimedRequest

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
STAND_IN = HERE.parent / "workload" / "trace.jsonl"
PUBLISHED = HERE.parents[2] / "shared" / "traces" / "mooncake_conversation_trace.jsonl"
SERVERS = 2  # of the pool that is asked


@pytest.fixture(scope="module")
def gateway(fresh_gateway: Gateway) -> Gateway:
    return fresh_gateway


async def play(gateway: Gateway, requests: Sequence[TimedRequest]) -> list[Answer]:
    """Send `requests` as fast as sixteen at a time allow, turns in order; every one must succeed."""
    async with aiohttp.ClientSession() as http:
        answers = await replay(requests, Client(http, gateway.gateway, BASE, limit=16), speed=math.inf)
    assert [answer.status for answer in answers] == [200] * len(requests)
    return answers


def by_chance(requests: Sequence[TimedRequest]) -> float:
    """Return the mean hit rate of random routing to servers with infinite caches."""
    prompts = [text_prompt(request.prompt) for request in requests]
    return sum(random_hits(prompts, SERVERS, random.Random(seed)).rate for seed in range(20)) / 20


async def test_conversations_find_most_of_what_can_be_found(gateway):
    """Closer to a single infinite cache than to random routing, and both servers work."""
    requests = conversations(Shape(sessions=90, tenants=12), seed=20)
    assert len(requests) > 300
    answers = await play(gateway, requests)
    ideal = ideal_hits(text_prompt(request.prompt) for request in requests).rate
    measured = measured_hits(answers).rate
    chance = by_chance(requests)
    assert measured > (ideal + chance) / 2
    assert min(servers(answers).values()) > len(requests) / 4


@pytest.mark.parametrize(("trace", "count"), [(STAND_IN, 5), (PUBLISHED, 200)], ids=["stand-in", "published"])
async def test_a_trace_can_be_played(gateway, trace, count):
    """Every request of it is answered, and what the servers found lies between nothing and the ideal."""
    if not trace.exists():
        pytest.skip("the published traces are not on this machine")
    with trace.open("rb") as lines:
        records = [record for record, _ in zip(mooncake.read(lines), range(count), strict=False)]
    requests = list(mooncake.requests(records, Scale(block_tokens=64, answers=0.02)))
    answers = await play(gateway, requests)
    assert len(answers) == count
    ideal = ideal_hits(text_prompt(request.prompt) for request in requests).rate
    assert 0 < measured_hits(answers).rate <= ideal + 0.05
