"""A million requests through the picker, nearly all of them new prompts: its memory must not grow with them.

    python -m bench.prefix_soak --requests 1000000

Prints the resident memory every tenth of the way. After the caches of all servers are full once, it is flat.
"""

from __future__ import annotations

import random
import time
from collections import deque
from pathlib import Path

import click

from bench.cost.scheduling import director
from services.epp.director import Ask
from services.epp.records import Release
from services.openai.digest import BOUNDARIES, Digest

PAGE = 4096
IN_FLIGHT = 10
"""Requests per server, so that all of them are used."""


@click.command(context_settings={"show_default": True})
@click.option("--requests", default=1_000_000)
@click.option("--servers", default=16)
@click.option(
    "--blocks", default=63, help="Of a prompt: 63 are 4 KB. Each fourth prompt goes on from an earlier one."
)
def main(requests: int, servers: int, blocks: int) -> None:
    """Run the soak."""
    picker, rng = director(servers), random.Random(1)
    index = picker.pools["llama"].prefixes
    recent: list[tuple[int, ...]] = []
    flying: deque[str] = deque()
    began = time.perf_counter()
    print("requests   MiB  blocks  seconds")
    for number in range(requests + 1):
        if number % (requests // 10) == 0:
            print(
                f"{number:8} {_resident():5.0f} {len(index):7} {time.perf_counter() - began:8.0f}", flush=True
            )
        prompt = _prompt(rng, recent, blocks)
        digest = Digest("m", True, BOUNDARIES[len(prompt) - 1], 200, prompt)
        reservation = picker.pick(Ask(digest))
        flying.append(reservation.id)
        if len(flying) > IN_FLIGHT * servers:
            picker.release("llama", flying.popleft(), Release.ACCESS_LOG)


def _prompt(rng: random.Random, recent: list[tuple[int, ...]], blocks: int) -> tuple[int, ...]:
    start: tuple[int, ...] = ()
    if recent and rng.random() < 0.25:
        start = rng.choice(recent)[: blocks // 2]
    prompt = (*start, *(rng.getrandbits(64) for _ in range(blocks - len(start))))
    recent.append(prompt)
    del recent[:-100]
    return prompt


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * PAGE / 2**20


if __name__ == "__main__":
    main()
