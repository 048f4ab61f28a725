"""Chats: nothing shared, one system prompt, tenants with growing conversations, and these under priorities."""

from __future__ import annotations

import random
from collections.abc import Iterator

from bench.routing.turns import Exchange, Run, Turn, conversation, names
from bench.routing.workloads.base import Planned, answer, lognormal, poisson, zipf


def unshared(rng: random.Random, count: int) -> list[Planned]:
    """Draw single questions of ShareGPT-like lengths: prompts of 250 tokens and answers of 220 in the mean."""
    ids = names()
    return poisson(
        rng,
        [
            [
                conversation(
                    session,
                    (),
                    [
                        Exchange(
                            [(next(ids), lognormal(rng, 250, 1.1, 8, 4000))], (next(ids), answer(rng, 220))
                        )
                    ],
                )
            ]
            for session in range(count)
        ],
    )


def one_system(rng: random.Random, count: int) -> list[Planned]:
    """Draw single questions behind one system prompt of 2,000 tokens."""
    ids = names()
    system = (next(ids), 2000)
    return poisson(
        rng,
        [
            [
                conversation(
                    session,
                    [system],
                    [Exchange([(next(ids), rng.randint(50, 600))], (next(ids), answer(rng, 150)))],
                )
            ]
            for session in range(count)
        ],
    )


def tenants(rng: random.Random, count: int) -> list[Planned]:
    """Draw conversations of 2 to 6 turns of 32 tenants by Zipf, system prompts of 1,000 to 3,000 tokens."""
    ids = names()
    prompts = [(next(ids), rng.randint(1000, 3000)) for _ in range(32)]
    weights = zipf(32)
    return poisson(rng, [[turn] for turn in _until(rng, ids, prompts, weights, count)])


def _until(
    rng: random.Random, ids: Iterator[int], prompts: list[Run], weights: list[float], count: int
) -> Iterator[Turn]:
    session = 0
    while count > 0:
        turns = rng.randint(2, 6)
        yield talk(rng, ids, session, [rng.choices(prompts, weights)[0]], turns)
        count -= turns
        session += 1


def talk(
    rng: random.Random,
    ids: Iterator[int],
    session: int,
    system: list[Run],
    turns: int,
    *,
    question: tuple[int, int] = (20, 400),
    mean_answer: int = 180,
    pause: float = 1.0,
    objective: str = "",
) -> Turn:
    """Draw one conversation."""
    exchanges = [
        Exchange(
            [(next(ids), rng.randint(*question))],
            (next(ids), answer(rng, mean_answer)),
            rng.expovariate(1 / pause),
        )
        for _ in range(turns)
    ]
    return conversation(session, system, exchanges, objective=objective)


CLASSES = ("interactive", "", "bulk")
SHARES = (0.3, 0.15, 0.55)
"""At twice the capacity those that must not be shed are nine tenths of it."""


def priorities(rng: random.Random, count: int) -> list[Planned]:
    """Draw short conversations of three classes; the last may be shed."""
    ids = names()
    prompts = [(next(ids), rng.randint(500, 2000)) for _ in range(16)]
    groups, session = [], 0
    while count > 0:
        turns = rng.randint(1, 3)
        system = [rng.choices(prompts, zipf(16))[0]]
        objective = rng.choices(CLASSES, SHARES)[0]
        groups.append([talk(rng, ids, session, system, turns, objective=objective)])
        count -= turns
        session += 1
    return poisson(rng, groups)
