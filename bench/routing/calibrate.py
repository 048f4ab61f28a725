"""The engine model against figures that others published: one server's times, and reuse on a fleet.

    MOONCAKE_TRACES=… python -m bench.routing.calibrate

NVIDIA's times of NIM are for so many clients that ask one after the other, prompts and answers all of one length. The
reuse is that of NVIDIA Dynamo's offline replay (1.6.1) of Mooncake's conversation trace at its own rate, on workers of
16,384 blocks of 64 tokens.
"""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from bench.routing.fleet import Fleet, Slo
from bench.routing.policies import POLICIES
from bench.routing.workloads.traces import FOLDER, load, turn
from bench.routing.world import World
from tools.model_server.constants import LLAMA_8B_H100, LLAMA_8B_NIM, LLAMA_70B_NIM, Profile
from tools.model_server.engine import Engine, Progress, Request

CALIBRATION = Path(__file__).parents[1] / "results/routing_calibration.json"


class Published(msgspec.Struct, frozen=True):
    """One line of NVIDIA's table. Times in milliseconds."""

    concurrency: int
    ttft: float
    itl: float
    throughput: float
    """Tokens of answers per second."""


NIM_70B = tuple(
    Published(*line)
    for line in (
        (1, 406.77, 18.58, 51.67),
        (5, 546.7, 21.83, 218.48),
        (25, 688.69, 38.75, 623.4),
        (50, 834.51, 59.73, 814.37),
        (100, 7996.25, 92.91, 917.26),
        (150, 34794.22, 92.86, 920.9),
    )
)
"""Llama 3.3 70B, FP8, two H100, 5,000 tokens in and 500 out, NIM 1.8.0."""
NIM_8B = tuple(
    Published(*line)
    for line in (
        (1, 10.26, 4.63, 214.56),
        (25, 36.34, 5.19, 4678.88),
        (50, 67.41, 5.91, 8018.23),
        (100, 119.97, 7.57, 12214.97),
        (250, 605.6, 16.14, 12964.72),
    )
)
"""Llama 3.1 8B, NIM 1.8.0; its first and shortest table, taken for 200 tokens in and 1,000 out on one GPU."""

REUSE: Mapping[int, float] = {8: 0.082, 16: 0.073}
"""Round robin's, by workers."""
ENDLESS_REUSE = 0.366


class Modelled(msgspec.Struct, frozen=True):
    """The engine's answer to one line. Times in milliseconds."""

    published: Published
    ttft: float
    itl: float
    throughput: float


class Replayed(msgspec.Struct, frozen=True):
    """Mooncake's conversation trace at its own rate."""

    workers: int
    policy: str
    reuse: float
    ttft_mean: float
    ttft_p50: float
    published: float
    """0 where nobody published one."""


class Calibration(msgspec.Struct, frozen=True):
    """All of it."""

    large: list[Modelled]
    small: list[Modelled]
    replays: list[Replayed]
    endless: float
    """Reuse of an endless cache, in blocks of 64 tokens."""


class Clients:
    """So many clients of one server, each with one request after the other, all alike."""

    def __init__(self, profile: Profile, concurrency: int, prompt: int, output: int) -> None:
        self._engine = Engine(profile)
        self._concurrency, self._prompt, self._output = concurrency, prompt, output
        self._asked: dict[str, float] = {}
        self._first: dict[str, float] = {}
        self._ttft: list[float] = []
        self._itl: list[float] = []

    def play(self, rounds: int) -> Modelled:
        """Let each client ask `rounds` times. First and last round are not measured: not all clients are there."""
        alone = self._output * self._engine.profile.decode_base
        starts = [(alone * client / self._concurrency, f"{client}/0") for client in range(self._concurrency)]
        while starts or self._engine.next_change < math.inf:
            due = self._engine.next_change
            if starts and starts[0][0] <= due:
                due, name = starts.pop(0)
                self._advance(due, rounds)
                self._ask(name, due)
            else:
                self._advance(due, rounds)
        ttft, itl = statistics.fmean(self._ttft), statistics.fmean(self._itl)
        rate = self._concurrency * self._output / (ttft + (self._output - 1) * itl)
        line = Published(self._concurrency, 0.0, 0.0, 0.0)
        return Modelled(line, round(1000 * ttft, 2), round(1000 * itl, 3), round(rate, 2))

    def _advance(self, now: float, rounds: int) -> None:
        for progress in self._engine.advance(now):
            self._take(progress, rounds)

    def _ask(self, name: str, now: float) -> None:
        self._asked[name] = now
        self._engine.submit(Request(name, self._prompt, self._output), now)

    def _take(self, progress: Progress, rounds: int) -> None:
        if progress.first:
            self._first[progress.id] = progress.at
        if not progress.finished:
            return
        client, _, number = progress.id.partition("/")
        if 0 < int(number) < rounds - 1:
            first = self._first[progress.id]
            self._ttft.append(first - self._asked[progress.id])
            self._itl.append((progress.at - first) / (self._output - 1))
        if int(number) + 1 < rounds:
            self._ask(f"{client}/{int(number) + 1}", progress.at)


def against(profile: Profile, table: Sequence[Published], prompt: int, output: int) -> list[Modelled]:
    """Return the model's times beside the published ones."""
    return [
        msgspec.structs.replace(Clients(profile, line.concurrency, prompt, output).play(5), published=line)
        for line in table
    ]


def replay(workers: int, policy: str) -> Replayed:
    """Replay the whole trace on `workers` servers."""
    profile = dataclasses.replace(LLAMA_8B_H100, kv_blocks=16_384, block_size=64)
    coming = [
        (record.timestamp / 1000, turn(record, number, 64))
        for number, record in enumerate(load("conversation"))
    ]
    outcomes = World(POLICIES[policy], Fleet(profile, workers, Slo(1.0, 0.1)), coming, 1).run()
    ttft = [one.ttft for one in outcomes]
    return Replayed(
        workers,
        policy,
        round(sum(one.cached for one in outcomes) / sum(one.turn.prompt_tokens for one in outcomes), 4),
        round(1000 * statistics.fmean(ttft), 1),
        round(1000 * statistics.median(ttft), 1),
        REUSE.get(workers, 0.0) if policy == "round-robin" else 0.0,
    )


def endless() -> float:
    """Return the reuse of an endless cache."""
    known: set[int] = set()
    found = asked = 0
    for record in load("conversation"):
        blocks = turn(record, 0, 64).blocks[: record.input_length // 64]
        found += 64 * next((k for k, block in enumerate(blocks) if block not in known), len(blocks))
        asked += record.input_length
        known.update(blocks)
    return round(found / asked, 4)


@click.command(help=__doc__)
def main() -> None:
    """Measure, print and keep."""
    if not os.environ.get(FOLDER):
        raise click.UsageError(
            f"{FOLDER} must name the folder of the traces: a stand-in's reuse compares with nothing"
        )
    found = Calibration(
        against(LLAMA_70B_NIM, NIM_70B, 5000, 500),
        against(LLAMA_8B_NIM, NIM_8B, 200, 1000),
        [replay(workers, policy) for workers in REUSE for policy in ("round-robin", "default")],
        endless(),
    )
    text = msgspec.json.format(msgspec.json.encode(found), indent=1)
    CALIBRATION.write_bytes(text + b"\n")
    print(text.decode())


if __name__ == "__main__":
    main()
