"""What shared state costs a picker, in CPU: a pick alone, one that is told of, and another replica's taken in.

    python -m bench.state_cost --replicas 4

Conversations go on turn by turn. All three are timed in turns within one run, without gRPC and Redis.
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import click

from bench.chain.machine import machine
from bench.chain.workload import MODEL
from bench.cost.scheduling import director
from services.epp.director import Ask, Director
from services.epp.records import Ended, EndOutcome, Release
from services.epp.state.share import Replica, Share
from services.epp.state.wire import encode
from services.openai.digest import BOUNDARIES, Digest

PICKS = 10
"""In one batch of 10 ms: a thousand requests a second at each replica."""
CONVERSATIONS, TURNS = 100, 10
FIRST, MORE = 60, 8
"""Blocks of a first prompt, and of each further turn: 4 KB, and 512 bytes to 1 KB."""


@dataclass(slots=True)
class Costs:
    """CPU in µs for each pick, one figure for each round; bytes in the stream."""

    alone: list[float]
    told: list[float]
    taken: list[float]
    bytes: float = 0.0


def turns(seed: int) -> Iterator[list[Digest]]:
    """Yield the prompts of each batch: every conversation's first turn, then every second turn, and so on."""
    rng = random.Random(seed)
    length = FIRST + MORE * TURNS
    chains = [tuple(rng.getrandbits(64) for _ in range(length)) for _ in range(CONVERSATIONS)]
    ends = [FIRST + MORE * turn for turn in range(TURNS)]
    prompts = iter(
        [
            Digest(MODEL, stream=True, prompt_bytes=BOUNDARIES[end - 1], max_tokens=200, blocks=chain[:end])
            for end in ends
            for chain in chains
        ]
    )
    while batch := list(itertools.islice(prompts, PICKS)):
        yield batch


def share(of: Director, owner: str) -> Share:
    """Make a replica of a director."""
    replica = Replica(owner, owner, 0.0)
    clock = time.monotonic
    return Share(
        of.pools["llama"], replica, prefix="igw", clock=clock, lease=3.0, limit=20_000, on_end=_nobody
    )


def serve(of: Director, prompts: Sequence[Digest]) -> None:
    """Pick for each prompt and hear of the ends, as from the access log."""
    for reservation in [of.pick(Ask(digest=prompt)) for prompt in prompts]:
        end = Ended(
            "llama",
            reservation.id,
            EndOutcome.COMPLETED,
            status=200,
            seconds=2.0,
            sent_after=0.001,
            answered_after=0.05,
            response_bytes=46_000,
        )
        of.finish(end, Release.ACCESS_LOG)


def measure(rounds: int, servers: int) -> Costs:
    """Time all three for fresh replicas in each round."""
    costs, size, picks = Costs([], [], []), 0, 0
    for number in range(rounds):
        alone, told, other = (director(servers) for _ in range(3))
        writer, reader = share(told, "11111111"), share(other, "22222222")
        sums = [0.0, 0.0, 0.0]
        for prompts in turns(number):
            sums[0] += _timed(partial(serve, alone, prompts))[0]
            spent, data = _timed(partial(_tell, told, writer, prompts))
            sums[1] += spent
            sums[2] += _timed(partial(reader.inbox.take, data, 0.005))[0]
            size, picks = size + len(data), picks + len(prompts)
        count = CONVERSATIONS * TURNS / 1e6
        for line, spent in zip((costs.alone, costs.told, costs.taken), sums, strict=True):
            line.append(spent / count)
    costs.bytes = size / picks
    return costs


def _tell(of: Director, writer: Share, prompts: Sequence[Digest]) -> bytes:
    serve(of, prompts)
    batch = writer.outbox.take(whole=False)
    return b"" if batch is None else encode(batch)


def _timed(work: Callable[[], object]) -> tuple[float, bytes]:
    began = time.process_time()
    result = work()
    return time.process_time() - began, result if isinstance(result, bytes) else b""


def _nobody(end: Ended) -> None:
    """Take no end."""


@click.command(context_settings={"show_default": True})
@click.option("--rounds", default=9)
@click.option("--servers", default=16)
@click.option("--replicas", default=2, help="Of which each takes in what all the others tell.")
def main(rounds: int, servers: int, replicas: int) -> None:
    """Print the figures."""
    costs = measure(rounds, servers)
    alone, told, taken = (statistics.median(line) for line in (costs.alone, costs.told, costs.taken))
    more = told - alone + (replicas - 1) * taken
    print("| for each pick, CPU in µs | median |\n| --- | ---: |")
    print(f"| pick and end, alone | {alone:.1f} |")
    print(f"| the same, told of and put into a batch | {told:.1f} |")
    print(f"| one of another replica, taken in | {taken:.1f} |")
    print(f"| more with {replicas} replicas, for each own pick | {more:.1f} |")
    print(
        f"\n{costs.bytes:.0f} bytes in the stream for each pick; a prompt goes on by {MORE} blocks each turn."
    )
    print("; ".join(f"{key} {value}" for key, value in machine().items()) + ".")


if __name__ == "__main__":
    main()
