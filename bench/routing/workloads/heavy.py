"""Long prompts: bursts of siblings, documents among chats, agents, and many adapters."""

from __future__ import annotations

import random

from bench.routing.turns import Exchange, conversation, names
from bench.routing.workloads.base import Planned, answer, poisson, zipf
from bench.routing.workloads.chat import talk


def bursts(rng: random.Random, count: int) -> list[Planned]:
    """Draw bursts of 4 to 24 siblings: a document of 3,000 to 8,000 tokens of their own, and short questions."""
    ids = names()
    groups, session = [], 0
    while count > 0:
        document, size = (next(ids), rng.randint(3000, 8000)), rng.randint(4, 24)
        group = []
        for _ in range(size):
            exchange = Exchange([(next(ids), rng.randint(20, 200))], (next(ids), answer(rng, 100)), 0.0, 256)
            group.append(conversation(session, [document], [exchange]))
            session += 1
        groups.append(group)
        count -= size
    return poisson(rng, groups)


def documents(rng: random.Random, count: int) -> list[Planned]:
    """Draw chats of eight tenants, and among them documents of 8,000 to 60,000 tokens asked about once or twice."""
    ids = names()
    tenants = [(next(ids), rng.randint(500, 1500)) for _ in range(8)]
    groups, session = [], 0
    while count > 0:
        long = rng.random() < 0.25
        system = (next(ids), rng.randint(8_000, 60_000)) if long else rng.choice(tenants)
        turns = rng.randint(1, 2) if long else rng.randint(2, 6)
        groups.append([talk(rng, ids, session, [system], turns)])
        count -= turns
        session += 1
    return poisson(rng, groups)


def agents(rng: random.Random, count: int) -> list[Planned]:
    """Draw agent sessions: 6 to 12 steps from 55,000 to 115,000 tokens on, tools of 12,000 tokens common to all.

    Steps add 3,500 tokens in the mean and answer 216, as recorded sessions do (median context 104,644 tokens).
    """
    ids = names()
    tools = (next(ids), 12_000)
    groups, session = [], 0
    while count > 0:
        turns = rng.randint(6, 12)
        start = [tools, (next(ids), rng.randint(43_000, 103_000))]
        groups.append(
            [talk(rng, ids, session, start, turns, question=(500, 6500), mean_answer=216, pause=1.5)]
        )
        count -= turns
        session += 1
    return poisson(rng, groups)


ADAPTERS = 24
"""Six times as many as a server has slots."""


def adapters(rng: random.Random, count: int) -> list[Planned]:
    """Draw questions to 24 adapters by Zipf, each with a system prompt of its own, and one in five to the base model."""
    ids = names()
    systems = {f"adapter-{n}": (next(ids), rng.randint(200, 1200)) for n in range(ADAPTERS)}
    base = (next(ids), 600)
    labels, weights = list(systems), zipf(ADAPTERS)
    groups = []
    for session in range(count):
        adapter = "" if rng.random() < 0.2 else rng.choices(labels, weights)[0]
        exchange = Exchange([(next(ids), rng.randint(20, 600))], (next(ids), answer(rng, 180)))
        groups.append([conversation(session, [systems.get(adapter, base)], [exchange], adapter=adapter)])
    return poisson(rng, groups)
