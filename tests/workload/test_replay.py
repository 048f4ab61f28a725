from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from tools.workload.prefixes import Hits
from tools.workload.replay import Answer, Client, measured_hits, replay, servers
from tools.workload.requests import Message, TimedRequest


def request(at: float = 0.0, session: str = "s", turn: int = 0) -> TimedRequest:
    return TimedRequest(at, "tenant", session, turn, (Message("user", "hi"),), 4)


async def test_a_turn_waits_for_the_answer_before_it():
    """Sessions run side by side, the turns of one do not."""
    running, log = set(), []

    async def send(asked):
        assert asked.session not in running
        running.add(asked.session)
        log.append((asked.session, asked.turn))
        await asyncio.sleep(0)
        running.discard(asked.session)
        return Answer(asked, 200)

    workload = [request(turn, session, turn) for turn in range(3) for session in "ab"]
    answers = await replay(workload, send, speed=math.inf)
    assert log[:2] == [("a", 0), ("b", 0)]
    assert [answer.request.turn for answer in answers] == [0, 0, 1, 1, 2, 2]


async def test_requests_are_sent_at_their_time():
    """A request never leaves before its time, scaled by the speed."""
    loop = asyncio.get_running_loop()
    start, sent = loop.time(), []

    async def send(asked):
        sent.append((asked.at, loop.time() - start))
        return Answer(asked, 200)

    await replay([request(2.0, "late"), request(0.0, "early")], send, speed=100)
    assert [at for at, _ in sent] == [0.0, 2.0]
    assert sent[1][1] >= 0.02


async def serve(handler: Callable[[web.Request], Awaitable[web.Response]]) -> TestServer:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    server = TestServer(app)
    await server.start_server()
    return server


async def test_the_client_reads_usage_and_the_name_of_the_server():
    """What a server says of its cache ends up in the answer."""

    async def handler(asked):
        body = await asked.json()
        assert body == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        usage = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}
        return web.json_response({"choices": [], "usage": usage}, headers={"x-served-by": "llama-0"})

    async with await serve(handler) as server, aiohttp.ClientSession() as http:
        answer = await Client(http, str(server.make_url("")).rstrip("/"), "m")(request())
    assert (answer.status, answer.server, answer.prompt_tokens, answer.cached_tokens) == (
        200,
        "llama-0",
        9,
        8,
    )


async def test_a_refusal_and_a_broken_connection_are_answers_too():
    """A run goes on, and its result says what went wrong."""

    async def handler(asked):
        if (await asked.json())["model"] == "broken":
            asked.transport.abort()
        return web.json_response({"error": {}}, status=429)

    async with await serve(handler) as server, aiohttp.ClientSession() as http:
        url = str(server.make_url("")).rstrip("/")
        statuses = [(await Client(http, url, model)(request())).status for model in ("m", "broken")]
    assert statuses == [429, 0]


def test_answers_add_up():
    """Hits and servers of a run are sums over its answers; failures count for neither."""
    answers = [Answer(request(), 200, "a", 10, 5), Answer(request(), 200, "b", 20, 10), Answer(request(), 0)]
    assert measured_hits(answers) == Hits(30, 15)
    assert servers(answers) == {"a": 1, "b": 1}
