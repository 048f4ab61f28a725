"""What the servers' own word is worth: cached share of prompts with KV events and with the estimate alone.

    python -m bench.kv_hits

Router, picker, real Envoy and two mock servers with small caches. Conversations of up to ten turns over 24 beginnings, six of
them favoured, one request at a time; `beside` is the share of requests that goes to the servers past this gateway, as
another gateway's would.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import tempfile
from pathlib import Path

from tests.e2e.test_kv_events import SERVED, SMALL, TELLS, Stack, stack
from tests.tokens.vocabulary import text

REQUESTS = 240
SEEDS = (5, 6, 7)
TURNS = 10
SCORERS = ("cost-scorer", "prefix-cache-scorer")
"""The default profile, and affinity without regard to load."""


def main() -> None:
    """Run all and print a table."""
    print("Cached share of the prompts that went through the gateway")
    print(f"{'scorer':20} blocks  beside  estimate  told")
    for scorer, blocks, beside in itertools.product(SCORERS, (150, 300), (0.0, 0.5)):
        shares = [asyncio.run(_mean(scorer, blocks, beside, told=told)) for told in (False, True)]
        print(f"{scorer:20} {blocks:6}  {beside:6.1f}  {shares[0]:8.3f}  {shares[1]:.3f}", flush=True)


async def _mean(scorer: str, blocks: int, beside: float, *, told: bool) -> float:
    settings = dataclasses.replace(TELLS, profile=dataclasses.replace(SMALL, kv_blocks=blocks))
    shares = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            port = 1000 * blocks + seed
            async with stack(Path(folder), port, SERVED, told=told, scorer=scorer, settings=settings) as up:
                shares.append(await _share(up, random.Random(seed), beside))
    return sum(shares) / len(shares)


async def _share(up: Stack, rng: random.Random, beside: float) -> float:
    conversations = [[text(250, seed)] for seed in range(24)]
    cached = tokens = 0
    for number in range(REQUESTS):
        chosen = rng.randrange(24) if rng.random() < 0.5 else rng.randrange(6)
        turns = conversations[chosen]
        if len(turns) >= TURNS:
            turns = conversations[chosen] = [text(250, rng.randrange(1000))]
        past = rng.choice(up.servers) if rng.random() < beside else None
        found = await up.chat(*turns, to=past)
        if past is None:
            cached, tokens = cached + found, tokens + sum(len(turn) + 16 for turn in turns) // 4
        turns += [text(6, chosen), text(40, chosen + number)]
    return cached / tokens


if __name__ == "__main__":
    main()
