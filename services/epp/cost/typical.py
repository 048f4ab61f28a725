"""What the requests of a pool are like of late: how long, how often they come, and whether they come back."""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.epp.cost.lesson import Lesson
from services.epp.inflight import DEFAULT_OUTPUT_TOKENS

GAIN = 0.02
"""What is typical is what the last fifty requests or so were."""
LATELY = 1.0
"""Seconds over which what the pool has to compute is averaged: about as long as one prompt keeps a server."""
MOST_TURNS = 20.0
"""A conversation is not expected to come back more often: it would decide alone where it begins."""
EXPECTED = 3.0
"""Mean pauses in which nearly all that go on have done so: nineteen in twenty, if pauses end at random."""


@dataclass(slots=True)
class Typical:
    """A request of this pool, as those that finished lately."""

    uncached_tokens: float = 500.0
    context_tokens: float = 1_000.0
    output_tokens: float = DEFAULT_OUTPUT_TOKENS
    fill: float = 0.0
    """Share of its limit that an answer with a limit came to."""
    seconds: float = 4.0
    again: float = 0.0
    """Share of prompts that conversations bring again and that one server alone held."""
    prompts: float = 0.0
    """Seconds in which all servers together would compute the prompts that were sent `LATELY`; older ones fade."""
    prompts_at: float = 0.0
    """When that was true."""
    pause: float = 2.0
    """Seconds between the end of a turn and the next one: tools and fast readers, until others are seen."""

    def busy(self, now: float) -> float:
        """Return how many servers the prompts of the last second or so keep busy."""
        return self.prompts * math.exp(min(0.0, self.prompts_at - now) / LATELY) / LATELY

    def sent(self, at: float, seconds: float) -> None:
        """Count a prompt that takes `seconds` to compute; other replicas tell of theirs late."""
        late = max(0.0, self.prompts_at - at)
        self.prompts = self.busy(at) * LATELY + seconds * math.exp(-late / LATELY)
        self.prompts_at = max(self.prompts_at, at)

    @property
    def turns(self) -> float:
        """How often a conversation that begins will come back, if all of it is sent again each time."""
        return min(self.again / max(1.0 - self.again, 1e-9), MOST_TURNS)

    def output(self, max_tokens: int) -> float:
        """Return how many tokens an answer limited to `max_tokens` (0: unlimited) is expected to have."""
        if not max_tokens:
            return self.output_tokens
        return min(max_tokens, max(self.output_tokens, self.fill * max_tokens))

    def paused(self, seconds: float) -> None:
        """Learn how long a conversation paused that went on."""
        self.pause += GAIN * (seconds - self.pause)

    def learn(self, taught: Lesson) -> None:
        """Learn from a request that completed."""
        tokens, prompt = taught.output_tokens, taught.context_tokens
        self.uncached_tokens += GAIN * (taught.prompt_tokens - self.uncached_tokens)
        self.context_tokens += GAIN * (prompt + tokens - self.context_tokens)
        self.seconds += GAIN * (taught.seconds - self.seconds)
        if prompt:
            self.again += GAIN * (min(1.0, taught.again_tokens / prompt) - self.again)
        if tokens:
            self.output_tokens += GAIN * (tokens - self.output_tokens)
            if taught.max_tokens:
                self.fill += GAIN * (min(1.0, tokens / taught.max_tokens) - self.fill)
