"""Twice the load that a pool can take, against a running gateway: what each class and each flow gets.

    python -m bench.overload --url http://127.0.0.1:8080

The gateway must have flow control on; docs/flow-control.md shows the configuration that its figures were made with.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

import aiohttp
import click

MODEL = "llama-3.1-8b-instruct"
REASON = "x-llm-d-request-dropped-reason"


@dataclass(frozen=True, slots=True)
class Class:
    """A share of the load."""

    name: str
    objective: str
    flow: str
    share: float


CLASSES = (
    Class("high (10)", "food-review", "a", 0.15),
    Class("normal (0), noisy tenant", "recommender", "noisy", 0.45),
    Class("normal (0), quiet tenant", "recommender", "quiet", 0.15),
    Class("batch (-1)", "batch", "b", 0.25),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request."""

    status: int
    reason: str
    seconds: float


async def ask(session: aiohttp.ClientSession, url: str, kind: Class, tokens: int) -> Answer:
    """Send one request and read all of its answer."""
    headers = {"x-gateway-inference-objective": kind.objective, "x-gateway-inference-fairness-id": kind.flow}
    prompt = f"{random.getrandbits(64)} " * 20
    body = {"model": MODEL, "max_tokens": tokens, "messages": [{"role": "user", "content": prompt}]}
    began = time.perf_counter()
    async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
        await answer.read()
        return Answer(answer.status, answer.headers.get(REASON, ""), time.perf_counter() - began)


async def capacity(
    session: aiohttp.ClientSession, url: str, concurrency: int, seconds: float, tokens: int
) -> float:
    """Return the requests per second that `concurrency` clients get, each sending one after another."""
    until, done = time.perf_counter() + seconds, 0

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await ask(session, url, CLASSES[0], tokens)
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return done / (time.perf_counter() - began)


async def overload(
    session: aiohttp.ClientSession, url: str, rate: float, seconds: float, tokens: int
) -> dict[str, list[Answer]]:
    """Send `rate` requests a second, whatever comes back; return the answers by class."""
    answers: dict[str, list[Answer]] = defaultdict(list)
    chance = random.Random(1)

    async def one(kind: Class) -> None:
        answers[kind.name].append(await ask(session, url, kind, tokens))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            group.create_task(one(chance.choices(CLASSES, [kind.share for kind in CLASSES])[0]))
    return answers


def report(answers: dict[str, list[Answer]]) -> list[dict[str, object]]:
    """Return a row for each class."""
    rows: list[dict[str, object]] = []
    for kind in CLASSES:
        got = answers[kind.name]
        served = [answer.seconds for answer in got if answer.status == 200]
        rows.append(
            {
                "class": kind.name,
                "sent": len(got),
                "served": len(served),
                "dropped": round(1 - len(served) / max(1, len(got)), 3),
                "p50": round(statistics.median(served), 2) if served else None,
                "p95": round(sorted(served)[int(0.95 * len(served))], 2) if served else None,
                "answers": dict(Counter(f"{a.status} {a.reason}".strip() for a in got)),
            }
        )
    return rows


async def run(url: str, *, concurrency: int, factor: float, seconds: float, tokens: int) -> None:
    """Measure the capacity, then overload it."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        rate = await capacity(session, url, concurrency, 4.0, tokens)
        click.echo(f"capacity with {concurrency} at once: {rate:.1f}/s; sending {factor * rate:.1f}/s")
        for row in report(await overload(session, url, factor * rate, seconds, tokens)):
            click.echo(json.dumps(row))


@click.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True)
@click.option("--concurrency", default=8, show_default=True, help="Places of the pool.")
@click.option("--factor", default=2.0, show_default=True, help="Load over capacity.")
@click.option("--seconds", default=15.0, show_default=True)
@click.option("--tokens", default=64, show_default=True, help="Of each answer.")
def main(url: str, concurrency: int, factor: float, seconds: float, tokens: int) -> None:
    """Print a line of JSON for each class."""
    asyncio.run(run(url, concurrency=concurrency, factor=factor, seconds=seconds, tokens=tokens))


if __name__ == "__main__":
    main()
