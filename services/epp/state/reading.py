"""The parts of a batch as values of the picker. Raise `Corrupt` for what says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from services.epp.cost.lesson import Lesson
from services.epp.endpoints import Metrics
from services.epp.load import Load
from services.epp.prefix import SIZES
from services.epp.records import Ended, EndOutcome
from services.epp.state import wire
from services.epp.state.wire import Corrupt, unpack

T = TypeVar("T")


def at(things: Sequence[T], place: int) -> T:
    """Return what is at `place`."""
    if not 0 <= place < len(things):
        raise Corrupt(f"no name {place}")
    return things[place]


def load(vector: wire.Vector) -> Load:
    """Return the totals of one server."""
    return Load(
        vector.requests,
        vector.prompt_tokens,
        vector.output_tokens,
        vector.context_tokens,
        vector.unseen,
        vector.finished,
    )


def ended(pool: str, end: wire.End) -> Ended:
    """Return the end of a request of `pool`."""
    try:
        outcome = EndOutcome(end.outcome)
    except ValueError as error:
        raise Corrupt(str(error)) from error
    return Ended(
        pool=pool,
        decision=end.decision,
        outcome=outcome,
        served=end.served,
        status=end.status,
        attempts=end.attempts,
        seconds=end.seconds,
        sent_after=end.sent_after,
        answered_after=end.answered_after,
        response_bytes=end.response_bytes,
    )


def blocks_of(data: bytes, start: int) -> tuple[int, ...]:
    """Return the blocks of a prompt from number `start` on."""
    blocks = unpack(data)
    if not 0 <= start <= len(SIZES) - len(blocks):
        raise Corrupt(f"{len(blocks)} blocks from {start}")
    return blocks


def metrics(report: wire.Report, told_at: float) -> Metrics:
    """Return what a server said; `told_at` is when that was told, by our clock."""
    return Metrics(
        waiting=report.waiting,
        running=report.running,
        kv_usage=report.kv_usage,
        block_size=report.block_size,
        num_blocks=report.num_blocks,
        active_adapters=frozenset(report.active_adapters),
        waiting_adapters=frozenset(report.waiting_adapters),
        max_adapters=report.max_adapters,
        started_at=report.started_at,
        prompt_tokens_total=report.prompt_tokens_total,
        scraped_at=told_at - report.age_ms / 1000,
    )


def lesson(taught: wire.Lesson) -> Lesson:
    """Return what a request taught."""
    return Lesson(
        completed=taught.completed,
        broken=taught.broken,
        ahead=taught.ahead,
        stalls=taught.stalls,
        batch=taught.batch,
        reads=taught.reads,
        prompt_tokens=taught.prompt_tokens,
        context_tokens=taught.context_tokens,
        max_tokens=taught.max_tokens,
        seconds=taught.seconds,
        first_token=taught.first_token,
        output_tokens=taught.output_tokens,
        again_tokens=taught.again_tokens,
    )
