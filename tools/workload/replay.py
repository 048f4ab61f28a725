"""A client that plays a workload against a gateway: open loop, but a session's turns one after the other."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import aiohttp
import msgspec

from tools.workload.prefixes import Hits
from tools.workload.requests import TimedRequest


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request."""

    request: TimedRequest
    status: int
    """0 when no answer came: the connection broke."""
    server: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0


Send = Callable[[TimedRequest], Awaitable[Answer]]


async def replay(requests: Iterable[TimedRequest], send: Send, *, speed: float = 1.0) -> list[Answer]:
    """Send every request when its time comes, or when the turn before it was answered, and return the answers.

    The answers are in the order of the requests. `speed` above 1 plays faster; infinity waits only for the turns.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()

    async def session(turns: Sequence[TimedRequest]) -> list[Answer]:
        answers = []
        for request in turns:
            await asyncio.sleep(max(0.0, start + request.at / speed - loop.time()))
            answers.append(await send(request))
        return answers

    ordered = sorted(requests, key=lambda request: (request.tenant, request.session, request.turn))
    async with asyncio.TaskGroup() as group:
        sessions = itertools.groupby(ordered, key=lambda request: (request.tenant, request.session))
        tasks = [group.create_task(session(list(turns))) for _, turns in sessions]
    answers = [answer for task in tasks for answer in task.result()]
    return sorted(answers, key=lambda answer: answer.request.at)


class Client:
    """Sends chat completions over HTTP, at most `limit` at a time, and reads what the servers say of their cache."""

    def __init__(self, http: aiohttp.ClientSession, gateway: str, model: str, *, limit: int = 64) -> None:
        self._http = http
        self._url = f"{gateway}/v1/chat/completions"
        self._model = model
        self._slots = asyncio.Semaphore(limit)

    async def __call__(self, request: TimedRequest) -> Answer:
        """Send `request` and return its answer; a refusal and a broken connection are answers too."""
        loop = asyncio.get_running_loop()
        async with self._slots:
            start = loop.time()
            try:
                async with self._http.post(self._url, json=request.chat(self._model)) as response:
                    body = await response.read()
            except aiohttp.ClientError:
                return Answer(request, 0, seconds=loop.time() - start)
            took = loop.time() - start
        if response.status != 200:  # noqa: PLR2004 - HTTP's own number
            return Answer(request, response.status, seconds=took)
        usage = _DECODER.decode(body).usage
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
        server = response.headers.get("x-served-by", "")
        return Answer(request, response.status, server, usage.prompt_tokens, cached, took)


def measured_hits(answers: Iterable[Answer]) -> Hits:
    """Return the tokens that the servers say they were asked for and found in their caches."""
    answers = list(answers)
    return Hits(sum(a.prompt_tokens for a in answers), sum(a.cached_tokens for a in answers))


def servers(answers: Iterable[Answer]) -> Counter[str]:
    """Return how many requests each server answered."""
    return Counter(answer.server for answer in answers if answer.server)


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Completion(msgspec.Struct):
    usage: _Usage


_DECODER = msgspec.json.Decoder(_Completion)
