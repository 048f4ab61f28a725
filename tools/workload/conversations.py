"""Conversations as chat products make them: tenants with a shared system prompt, sessions, growing turns, bursts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tools.workload.requests import Message, TimedRequest
from tools.workload.text import pseudo_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the conversations look like. Lengths are in tokens, pairs are the least and the most of a uniform draw."""

    sessions: int = 60
    tenants: int = 8
    tenant_skew: float = 1.1
    """Exponent of the Zipf law over tenants: 0 makes them equal; chat products measure about 1."""
    system_tokens: int = 400
    """Length of a tenant's system prompt, which all its sessions share."""
    turns: tuple[int, int] = (2, 6)
    question_tokens: tuple[int, int] = (20, 200)
    answer_tokens: tuple[int, int] = (20, 120)
    """Length of the answers that the history repeats, and the `max_tokens` of each request."""
    arrivals_per_second: float = 4.0
    """Poisson rate at which sessions, or bursts of them, begin."""
    burst_share: float = 0.2
    """Share of the arrivals that are a burst: several sessions of one tenant at the same moment."""
    burst_sessions: int = 6
    think_seconds: float = 3.0
    """Mean pause between an answer and the next question (exponential)."""


def conversations(shape: Shape, seed: int) -> list[TimedRequest]:
    """Return the requests of all sessions in order of time; equal arguments give equal requests."""
    rng = random.Random(seed)
    requests = [request for start in _starts(shape, rng) for request in _session(shape, seed, *start)]
    return sorted(requests, key=lambda request: (request.at, request.session, request.turn))


def _starts(shape: Shape, rng: random.Random) -> Iterator[tuple[int, int, float]]:
    """Yield number, tenant and time of each session."""
    weights = [1 / rank**shape.tenant_skew for rank in range(1, shape.tenants + 1)]
    number, now = 0, 0.0
    while number < shape.sessions:
        now += rng.expovariate(shape.arrivals_per_second)
        tenant = rng.choices(range(shape.tenants), weights)[0]
        together = shape.burst_sessions if rng.random() < shape.burst_share else 1
        for session in range(number, min(number + together, shape.sessions)):
            yield session, tenant, now
        number += together


def _session(shape: Shape, seed: int, number: int, tenant: int, start: float) -> Iterator[TimedRequest]:
    name = f"{seed}/tenant-{tenant}/session-{number}"
    rng = random.Random(name)
    system = Message("system", pseudo_text(f"{seed}/tenant-{tenant}", shape.system_tokens))
    history: tuple[Message, ...] = (system,)
    now = start
    for turn in range(rng.randint(*shape.turns)):
        question = pseudo_text(f"{name}/question-{turn}", rng.randint(*shape.question_tokens))
        answer_tokens = rng.randint(*shape.answer_tokens)
        history = (*history, Message("user", question))
        yield TimedRequest(now, f"tenant-{tenant}", f"session-{number}", turn, history, answer_tokens)
        history = (*history, Message("assistant", pseudo_text(f"{name}/answer-{turn}", answer_tokens)))
        now += rng.expovariate(1 / shape.think_seconds)
