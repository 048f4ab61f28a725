"""What is known of a request when it has ended: what the picker believed of it, and what was observed."""

from __future__ import annotations

from services.epp.inflight import Entry
from services.epp.records import Ended, Finished

EVENT_BYTES = 190
"""Of one event of a streamed chat besides the model's name: id, object, time, choice and a word. vLLM sends one event
for each token, most of the time."""
FRAME_BYTES = 350
"""Of a whole answer besides its text."""
TEXT_BYTES = 4
"""Of a token of English text."""


def finished(entry: Entry, end: Ended, address: str, now: float) -> Finished:
    """Join `entry` and `end`; `address` is the server that the request counts at, `now` the clock of `entry`."""
    usage, sent = end.usage, end.sent_after or 0.0
    seconds = end.seconds - sent if end.sent_after is not None else now - entry.picked_at
    return Finished(
        pool=end.pool,
        decision=end.decision,
        endpoint=end.served or address,
        outcome=end.outcome,
        model=entry.model,
        status=end.status,
        priority=entry.priority,
        fairness=entry.fairness,
        stream=entry.stream,
        picked_at=entry.picked_at,
        seconds=max(0.0, seconds),
        first_byte=_since(sent, end.answered_after),
        first_token=_since(sent, end.first_token_after) if entry.stream else None,
        prompt_tokens=usage.prompt if usage else entry.context_tokens,
        uncached_tokens=entry.prompt_tokens,
        cached_tokens=usage.cached if usage else None,
        output_tokens=usage.completion if usage else estimated_output(entry, end),
        counted=usage is not None,
        prompt_bytes=entry.prompt_bytes,
        response_bytes=end.response_bytes,
        total_seconds=end.seconds,
        first_token_slo=entry.first_token_slo,
        token_slo=entry.token_slo,
    )


def estimated_output(entry: Entry, end: Ended) -> int:
    """Return the tokens that so many bytes of an answer are likely to be."""
    if not end.response_bytes:
        return 0
    if entry.stream:
        return max(1, end.response_bytes // (EVENT_BYTES + len(entry.model)))
    tokens = max(1, (end.response_bytes - FRAME_BYTES) // TEXT_BYTES)
    return min(tokens, entry.max_tokens) if entry.max_tokens else tokens


def _since(start: float, moment: float | None) -> float | None:
    return None if moment is None else max(0.0, moment - start)
