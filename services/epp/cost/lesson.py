"""What a request that ended teaches of its server; replicas tell it each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a request that ended teaches of its server."""

    completed: bool
    broken: bool
    """By its server's fault; neither is somebody who stopped waiting."""
    ahead: float
    """Prompt tokens that the server had to compute until the end of this prompt."""
    stalls: float
    """Prompt tokens that came after and were computed before its end: decoding stood still for them."""
    batch: float
    """Mean number of sequences in the server's batch while it was there."""
    reads: float
    """Mean number of tokens of context in that batch."""
    prompt_tokens: int
    """Of these, its own."""
    context_tokens: int
    max_tokens: int
    seconds: float
    first_token: float | None
    output_tokens: int
    again_tokens: int = 0
    """Of the context, those that a conversation which went on brought again and that one server alone held."""
