"""Play a workload against a running gateway and say how much of it the servers found in their caches.

    python -m bench.replay                                    generated conversations
    python -m bench.replay --trace FILE --requests 500 --block-tokens 64 --speed 20

The ideal is one server that forgets nothing, chance is random routing over as many servers as answered.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import click

from tools.workload import mooncake
from tools.workload.conversations import Shape, conversations
from tools.workload.mooncake import Scale
from tools.workload.prefixes import ideal_hits, random_hits, text_prompt
from tools.workload.replay import Answer, Client, measured_hits, replay, servers
from tools.workload.requests import TimedRequest

CHANCES = 10  # draws of random routing whose mean is shown


@click.command(context_settings={"show_default": True})
@click.option("--gateway", default="http://127.0.0.1:8080")
@click.option("--model", default="llama-3.1-8b-instruct")
@click.option("--limit", default=64, help="Requests in flight at most.")
@click.option("--speed", default=1.0, help="Plays so many times as fast; 0 is as fast as the turns allow.")
@click.option("--sessions", default=100, help="Of the generated conversations.")
@click.option("--tenants", default=8, help="Of the generated conversations; each has a system prompt.")
@click.option("--seed", default=1, help="Of the generated conversations.")
@click.option(
    "--trace", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A Mooncake trace."
)
@click.option("--requests", "count", type=int, help="The first so many of the trace.")
@click.option("--block-tokens", default=mooncake.BLOCK_TOKENS, help="Tokens per block of the trace.")
@click.option("--answers", default=1.0, help="Factor on the lengths of the trace's answers.")
def main(
    gateway: str,
    model: str,
    limit: int,
    speed: float,
    sessions: int,
    tenants: int,
    seed: int,
    trace: Path | None,
    count: int | None,
    block_tokens: int,
    answers: float,
) -> None:
    """Play a workload and print what came of it."""
    if trace is None:
        requests = conversations(Shape(sessions=sessions, tenants=tenants), seed)
    else:
        requests = _trace(trace, count, Scale(block_tokens=block_tokens, answers=answers))
    results = asyncio.run(_play(requests, gateway, model, limit, speed or float("inf")))
    print("\n".join(f"{name:24} {value}" for name, value in _report(requests, results)))
    sys.exit(any(answer.status != 200 for answer in results))


def _trace(path: Path, count: int | None, scale: Scale) -> list[TimedRequest]:
    with path.open("rb") as lines:
        return list(mooncake.requests(itertools.islice(mooncake.read(lines), count), scale))


async def _play(
    requests: Sequence[TimedRequest], gateway: str, model: str, limit: int, speed: float
) -> list[Answer]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http:
        return await replay(requests, Client(http, gateway, model, limit=limit), speed=speed)


def _report(requests: Sequence[TimedRequest], results: Sequence[Answer]) -> list[tuple[str, str]]:
    prompts = [text_prompt(request.prompt) for request in requests]
    by_server = servers(results)
    draws = [random_hits(prompts, len(by_server) or 1, random.Random(seed)).rate for seed in range(CHANCES)]
    seconds = sorted(answer.seconds for answer in results if answer.status == 200) or [0.0]
    return [
        ("requests", str(len(results))),
        ("failed", str(sum(answer.status != 200 for answer in results))),
        ("prompt tokens", str(measured_hits(results).prompt_tokens)),
        ("found in a cache", f"{measured_hits(results).rate:.1%}"),
        ("ideal", f"{ideal_hits(prompts).rate:.1%}"),
        ("chance", f"{statistics.mean(draws):.1%}"),
        ("seconds p50, p99", f"{seconds[len(seconds) // 2]:.3f}, {seconds[len(seconds) * 99 // 100]:.3f}"),
        ("by server", ", ".join(f"{name} {number}" for name, number in sorted(by_server.items()))),
    ]


if __name__ == "__main__":
    main()
