"""Values of the picker as the parts of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from services.epp.cost.lesson import Lesson
from services.epp.endpoints import Metrics
from services.epp.inflight import PREFILL, Entry
from services.epp.load import Load
from services.epp.records import Ended
from services.epp.state import wire
from services.epp.state.wire import encode_end, pack


class Names:
    """The strings of one batch, each once."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def __call__(self, name: str) -> int:
        """Return the place of `name`."""
        return self._places.setdefault(name, len(self._places))

    def all(self) -> tuple[str, ...]:
        """Return all, in their places."""
        return tuple(self._places)


@dataclass(slots=True)
class Told:
    """A pick with the address that it went to, which its slot may not stand for much longer."""

    entry: Entry
    address: str
    again: bool = False
    """It was told before, and may have ended since."""


@dataclass(slots=True)
class Moved:
    """A request that went elsewhere, with both addresses."""

    entry: Entry
    before: str
    after: str
    prompt_tokens: int


def number(decision: str) -> int:
    """Return the number in a decision's id; 0 for a share of one, whose end nobody tells."""
    return 0 if decision.endswith(PREFILL) else int(decision.rpartition("-")[2], 16)


def pick(told: Told, names: Names, now: float) -> wire.Pick:
    """Return a pick; `now` is the clock of its entry."""
    entry = told.entry
    blocks, held = entry.blocks, entry.matched
    return wire.Pick(
        0 if told.again else number(entry.id),
        names(told.address),
        names(entry.model),
        age(entry.picked_at, now),
        entry.prompt_tokens,
        entry.output_tokens,
        entry.context_tokens,
        held,
        blocks[held - 1] if held else 0,
        pack(blocks[held:]),
        told.again,
    )


def move(told: Moved, names: Names) -> wire.Move:
    """Return a move."""
    entry = told.entry
    before, after = names(told.before), names(told.after)
    return wire.Move(number(entry.id), before, after, told.prompt_tokens, entry.matched, pack(entry.blocks))


def vector(load: Load, place: int) -> wire.Vector:
    """Return what is in flight at the server at `place`."""
    return wire.Vector(
        place,
        load.requests,
        load.prompt_tokens,
        load.output_tokens,
        load.context_tokens,
        load.unseen,
        load.finished,
    )


def ends(told: Iterable[tuple[str, Ended]]) -> dict[str, tuple[msgspec.Raw, ...]]:
    """Return ends by the replica that they are for."""
    found: dict[str, list[msgspec.Raw]] = {}
    for owner, end in told:
        encoded = wire.End(
            end.decision,
            end.outcome.value,
            end.served,
            end.status,
            end.attempts,
            end.seconds,
            end.sent_after,
            end.answered_after,
            end.response_bytes,
        )
        found.setdefault(owner, []).append(encode_end(encoded))
    return {owner: tuple(encoded) for owner, encoded in found.items()}


def report(metrics: Metrics, place: int, now: float) -> wire.Report:
    """Return what the server at `place` said of itself."""
    return wire.Report(
        place,
        age(metrics.scraped_at, now),
        metrics.waiting,
        metrics.running,
        metrics.kv_usage,
        metrics.block_size,
        metrics.num_blocks,
        tuple(metrics.active_adapters),
        tuple(metrics.waiting_adapters),
        metrics.max_adapters,
        metrics.started_at,
        metrics.prompt_tokens_total,
    )


def lesson(taught: Lesson, place: int) -> wire.Lesson:
    """Return what a request taught of the server at `place`."""
    return wire.Lesson(
        place,
        taught.completed,
        taught.broken,
        taught.ahead,
        taught.stalls,
        taught.batch,
        taught.reads,
        taught.prompt_tokens,
        taught.context_tokens,
        taught.max_tokens,
        taught.seconds,
        taught.first_token,
        taught.output_tokens,
        taught.again_tokens,
    )


def age(moment: float, now: float) -> int:
    """Return how long ago `moment` was, in milliseconds."""
    return max(0, round((now - moment) * 1000))
