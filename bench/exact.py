"""What safety's exact mode adds to the first event of a clean streamed answer, on the running gateway.

Two Envoys with the whole chain take turns, one request at a time: one shows safety the answers, the other does not.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from bench.chain import client
from bench.chain.machine import machine
from bench.chain.report import Percentiles
from bench.chain.rows import Row
from bench.chain.stack import Stack, running
from bench.chain.workload import Workload

CHAIN = ("bbr", "safety", "epp")
ROWS = (Row("prompts judged", CHAIN, check_answers=False), Row("prompts and answers judged", CHAIN))
RESULT = Path(__file__).parent / "results/exact.json"
REQUESTS = 40  # of each row in a round


class Added(msgspec.Struct, frozen=True):
    """Milliseconds until the first byte of an answer's body."""

    first_event: dict[str, Percentiles]
    """Row → over all rounds."""
    added: float
    """What judging answers adds to the median: the median of the rounds, each of which compares its own."""
    added_quietest: float
    """The same in the quietest round."""


def measure(stack: Stack, rounds: int) -> Added:
    """Let the rows take turns."""
    times: dict[str, list[list[float]]] = {row.title: [] for row in ROWS}
    requests = Workload(2_000, stream=True).requests()
    for number in range(rounds):
        print(f"bench: round {number + 1} of {rounds}", file=sys.stderr)
        for row in ROWS if number % 2 else reversed(ROWS):
            times[row.title].append(_firsts(stack.gateways[row.title], requests))
    medians = {title: [statistics.median(one) for one in each] for title, each in times.items()}
    without, judged = (medians[row.title] for row in ROWS)
    return Added(
        {title: Percentiles.of(second for one in each for second in one) for title, each in times.items()},
        round(1000 * statistics.median(b - a for a, b in zip(without, judged, strict=True)), 3),
        round(1000 * (min(judged) - min(without)), 3),
    )


def _firsts(port: int, requests: Iterator[bytes]) -> list[float]:
    samples = asyncio.run(client.run(port, requests, count=REQUESTS, concurrency=1))
    return [sample.first for sample in samples]


@click.command()
@click.option("--rounds", default=12, show_default=True, help="More rounds, less noise.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULT, help="Where the JSON goes.")
def main(rounds: int, output: Path) -> None:
    """Measure what judging a streamed answer adds to its first event."""
    with running(ROWS) as stack:
        added = measure(stack, rounds)
    output.write_bytes(
        msgspec.json.format(msgspec.json.encode({"machine": machine(), "added": added}), indent=1) + b"\n"
    )
    for title, found in added.first_event.items():
        print(f"{title}: first event after {found.p50:.2f} ms, p99 {found.p99:.2f} ms")
    print(
        f"judging adds {added.added:.2f} ms to the median, {added.added_quietest:.2f} ms in the quietest round"
    )


if __name__ == "__main__":
    main()
