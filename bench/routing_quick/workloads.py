"""Workloads as runs of tokens with names: equal runs from the start are a shared prefix."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Prompt:
    """Runs of tokens with a name; equal runs from the start are a shared prefix."""

    runs: tuple[tuple[int, int], ...]  # (content id, tokens)

    @property
    def tokens(self) -> int:
        """Its length."""
        return sum(length for _, length in self.runs)

    def chain(self, ends: Iterator[int]) -> tuple[int, ...]:
        """Hash the prompt up to each of `ends` (tokens) that it reaches."""
        hashes, parent, at, start = [], 0, 0, 0
        total = self.tokens
        for end in ends:
            if end > total:
                break
            while at + 1 < len(self.runs) and start + self.runs[at][1] < end:
                parent = hash((parent, self.runs[at]))
                start += self.runs[at][1]
                at += 1
            parent = hash((parent, self.runs[at][0], end - start))
            hashes.append(parent)
        return tuple(hashes)


@dataclass(slots=True)
class Turn:
    """One request, and those that follow when it is answered."""

    prompt: Prompt
    answer: tuple[int, int]
    max_tokens: int
    at: float
    adapter: str = ""
    then: list[Turn] = field(default_factory=list)
    """Asked when this is answered; `at` is then the pause."""


def _ids() -> Iterator[int]:
    return itertools.count(1)


def _answer(rng: random.Random, mean: int) -> int:
    return max(4, min(4 * mean, round(rng.lognormvariate(0, 0.8) * mean / 1.377)))


def unshared(rng: random.Random, count: int) -> Iterator[Turn]:
    """ShareGPT-like lengths, nothing shared."""
    ids = _ids()
    for _ in range(count):
        prompt = Prompt(((next(ids), max(10, round(rng.lognormvariate(5.5, 1.0)))),))
        yield Turn(prompt, (next(ids), _answer(rng, 220)), 0, 0.0)


def shared(rng: random.Random, count: int) -> Iterator[Turn]:
    """Tenants by Zipf with system prompts of 1,000 to 3,000 tokens, conversations of 2 to 8 turns."""
    ids = _ids()
    tenants = [(next(ids), rng.randint(1000, 3000)) for _ in range(16)]
    weights = [1 / rank for rank in range(1, 17)]
    while count > 0:
        turns = rng.randint(2, 8)
        yield _conversation(rng, ids, rng.choices(tenants, weights)[0], turns)
        count -= turns


def one_system(rng: random.Random, count: int) -> Iterator[Turn]:
    """One system prompt of 2,000 tokens for everybody, single questions."""
    ids = _ids()
    system = (next(ids), 2000)
    for _ in range(count):
        prompt = Prompt((system, (next(ids), rng.randint(50, 600))))
        yield Turn(prompt, (next(ids), _answer(rng, 150)), 0, 0.0)


def bursts(rng: random.Random, count: int) -> Iterator[Turn]:
    """Bursts of 4 to 24 siblings at once: a document of 3,000 to 8,000 tokens of the group's own, short questions."""
    ids = _ids()
    while count > 0:
        document, size = (next(ids), rng.randint(3000, 8000)), rng.randint(4, 24)
        for _ in range(size):
            prompt = Prompt((document, (next(ids), rng.randint(20, 200))))
            yield Turn(prompt, (next(ids), _answer(rng, 100)), 256, 0.0, adapter=f"@{count}")
        count -= size


def mixed(rng: random.Random, count: int) -> Iterator[Turn]:
    """Chat as in `shared`, and every twelfth a document of 8,000 to 60,000 tokens, half of them asked twice."""
    ids = _ids()
    tenants = [(next(ids), rng.randint(500, 1500)) for _ in range(8)]
    while count > 0:
        if rng.random() < 0.25:
            document = (next(ids), rng.randint(8_000, 60_000))
            turns = rng.randint(1, 2)
            yield _conversation(rng, ids, document, turns)
        else:
            turns = rng.randint(2, 6)
            yield _conversation(rng, ids, rng.choice(tenants), turns)
        count -= turns


def agents(rng: random.Random, count: int) -> Iterator[Turn]:
    """Agent sessions: 20,000 to 60,000 tokens at the start, 12 to 30 turns, 600 more each, short answers and pauses."""
    ids = _ids()
    while count > 0:
        turns = rng.randint(12, 30)
        start = (next(ids), rng.randint(20_000, 60_000))
        yield _conversation(rng, ids, start, turns, question=(200, 1500), answer=120, pause=2.0)
        count -= turns


def _conversation(
    rng: random.Random,
    ids: Iterator[int],
    system: tuple[int, int],
    turns: int,
    *,
    question: tuple[int, int] = (20, 400),
    answer: int = 180,
    pause: float = 6.0,
) -> Turn:
    runs: tuple[tuple[int, int], ...] = (system,)
    first: Turn | None = None
    last: Turn | None = None
    for _ in range(turns):
        runs = (*runs, (next(ids), rng.randint(*question)))
        reply = (next(ids), _answer(rng, answer))
        turn = Turn(Prompt(runs), reply, 0, rng.expovariate(1 / pause))
        runs = (*runs, reply)
        if last is None:
            first = turn
        else:
            last.then.append(turn)
        last = turn
    assert first is not None
    return first


WORKLOADS: dict[str, Callable[[random.Random, int], Iterator[Turn]]] = {
    "unshared": unshared,
    "shared": shared,
    "one-system": one_system,
    "bursts": bursts,
    "half-speed": shared,
    "mixed": mixed,
    "agents": agents,
}
COUNTS = {"agents": 900, "mixed": 1500}

CAPACITY = {
    # Requests per second and server at which a fleet that routes at random is just saturated; measured with this file.
    "unshared": 7.5,
    "shared": 9.0,
    "one-system": 12.0,
    "bursts": 4.5,
    "half-speed": 8.4,
    "mixed": 2.0,
    "agents": 1.6,
}


def size(turn: Turn) -> int:
    """Return how many requests come of `turn`."""
    return 1 + sum(size(then) for then in turn.then)


def arrivals_of(workload: str, seed: int, servers: int, load: float) -> list[tuple[float, Turn]]:
    """Return the requests with their times, `load` times what the fleet can take at random."""
    rng = random.Random(f"{workload}/{seed}")
    turns = list(WORKLOADS[workload](rng, COUNTS.get(workload, 2500)))
    total = sum(map(size, turns))
    rate = CAPACITY[workload] * servers * load
    groups: list[list[Turn]] = []
    for turn in turns:
        if turn.adapter.startswith("@") and groups and groups[-1][0].adapter == turn.adapter:
            groups[-1].append(turn)
        else:
            groups.append([turn])
    now, arrivals = 0.0, []
    for group in groups:
        now += rng.expovariate(rate * len(groups) / total)
        arrivals += [(now + 0.002 * k, turn) for k, turn in enumerate(group)]
    return arrivals
