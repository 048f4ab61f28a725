"""What this replica has to tell the others about one pool: bounded, oldest first, and gathered into batches.

Everything here is quick: the request path calls it. Batches are made elsewhere, a few hundred a second at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from services.epp.inflight import PREFILL, Entry
from services.epp.load import Load
from services.epp.pool import Pool
from services.epp.records import Ended, EndOutcome, Finished
from services.epp.state.lease import EndpointShare
from services.epp.state.wire import VERSION, Batch, End, Move, Pick, Vector, encode_end, pack
from services.openai.digest import prefix_bytes

MOST = 500
"""Picks in one batch: some 200 KB at most, and a few milliseconds to read."""
SEED = 1_000
"""Latest picks that are told again when Redis has lost them."""
BAD_REQUEST = 400
IDLE = Load()

T = TypeVar("T")


@dataclass(slots=True)
class _Sent:
    """All that was ever sent to one server from here."""

    picks: int = 0
    prompt_bytes: int = 0
    matched_bytes: int = 0


class _Names:
    """The strings of one batch, each once."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def __call__(self, name: str) -> int:
        return self._places.setdefault(name, len(self._places))

    def all(self) -> tuple[str, ...]:
        return tuple(self._places)


@dataclass(slots=True)
class _Told:
    """A pick with the address that it went to, which its slot may not stand for much longer."""

    entry: Entry
    address: str
    again: bool = False
    """It was told before, and may have ended since."""


@dataclass(slots=True)
class _Moved:
    entry: Entry
    before: str
    after: str
    prompt_tokens: int


@dataclass(slots=True)
class _Waiting:
    """What has not been told yet, each kind bounded."""

    picks: deque[_Told] = field(default_factory=deque)
    moves: deque[_Moved] = field(default_factory=deque)
    passed: deque[int] = field(default_factory=deque)
    gone: deque[int] = field(default_factory=deque)
    ends: deque[tuple[str, Ended]] = field(default_factory=deque)

    def __bool__(self) -> bool:
        return any((self.picks, self.moves, self.passed, self.gone, self.ends))

    def clear(self) -> None:
        for line in (self.picks, self.moves, self.passed, self.gone, self.ends):
            line.clear()


class Outbox:
    """Hears what happens in `pool`. `urgent` is called when there is something that others wait for."""

    def __init__(self, pool: Pool, owner: str, *, clock: Callable[[], float], limit: int) -> None:
        self.owner = owner
        self.dropped = 0
        """What was never told because too much waited."""
        self.told = 0
        """Entries in all batches."""
        self.urgent: Callable[[], None] = _nobody
        self._pool = pool
        self._clock = clock
        self._limit = limit
        self._waiting = _Waiting()
        self._recent: deque[_Told] = deque(maxlen=SEED)
        self._sent: dict[str, _Sent] = {}
        self._seq = 0

    def picked(self, entry: Entry) -> None:
        """Tell of a pick."""
        address = self._pool.address(entry.slot)
        told = _Told(entry, address)
        self._recent.append(told)
        self._add(self._waiting.picks, told)
        sent = self._sent.get(address)
        if sent is None:
            sent = self._sent[address] = _Sent()
        sent.picks += 1
        sent.prompt_bytes += entry.prompt_bytes
        sent.matched_bytes += prefix_bytes(entry.matched)

    def moved(self, entry: Entry, slot: int, prompt_tokens: int) -> None:
        """Tell that a request went elsewhere."""
        before, after = self._pool.address(entry.slot), self._pool.address(slot)
        self._add(self._waiting.moves, _Moved(entry, before, after, prompt_tokens))

    def finished(self, entry: Entry, done: Finished) -> None:
        """Tell that a prompt has been computed."""
        if done.outcome is EndOutcome.COMPLETED and done.status < BAD_REQUEST and (id_ := number(entry.id)):
            self._add(self._waiting.passed, id_)

    def uncounted(self, entry: Entry) -> None:
        """Tell that a request counts no more."""
        if id_ := number(entry.id):
            self._add(self._waiting.gone, id_)

    def ended(self, owner: str, end: Ended) -> None:
        """Tell `owner` how one of its requests ended."""
        self._add(self._waiting.ends, (owner, end))

    def seed(self) -> None:
        """Tell the latest picks once more."""
        waiting = {id(told) for told in self._waiting.picks}
        again = [_Told(one.entry, one.address, again=True) for one in self._recent if id(one) not in waiting]
        self._waiting.picks.extendleft(reversed(again))

    def take(self, *, whole: bool) -> Batch | None:
        """Return the next batch; None when there is nothing to tell. `whole`: with all loads, changed or not.

        Where more picks wait than fit, the batch has nothing else, also not all loads: what came later waits for them.
        """
        names, waiting = _Names(), self._waiting
        changed = self._pool.inflight.changed
        if not (whole or changed or waiting):
            return None
        self._seq += 1
        picks = self._picks(names)
        if waiting.picks:
            batch = Batch(VERSION, self.owner, self._seq, whole=False, names=names.all(), picks=picks)
        else:
            batch = Batch(
                VERSION,
                self.owner,
                self._seq,
                whole=whole,
                picks=picks,
                moves=tuple([_move(one, names) for one in waiting.moves]),
                passed=tuple(waiting.passed),
                gone=tuple(waiting.gone),
                vectors=self._vectors(names, whole=whole),
                ends=_ends(waiting.ends),
                names=names.all(),
            )
            waiting.clear()
        self.told += len(batch.picks) + len(batch.moves) + len(batch.vectors) + len(batch.gone)
        return batch

    def shares(self) -> tuple[EndpointShare, ...]:
        """Return what this replica has to do with each server of the pool."""
        return tuple([self._share(server.address, server.slot) for server in self._pool.snapshot.servers])

    def _share(self, address: str, slot: int) -> EndpointShare:
        load, sent = self._pool.inflight.own[slot], self._sent.get(address, _Sent())
        return EndpointShare(
            address,
            load.requests,
            load.prompt_tokens,
            load.output_tokens,
            load.context_tokens,
            sent.picks,
            sent.prompt_bytes,
            sent.matched_bytes,
        )

    def _vectors(self, names: _Names, *, whole: bool) -> tuple[Vector, ...]:
        inflight = self._pool.inflight
        if whole:
            busy = [
                server.slot for server in self._pool.snapshot.servers if inflight.own[server.slot] != IDLE
            ]
        else:
            busy = list(inflight.changed)
        inflight.changed.clear()
        return tuple([_vector(inflight.own[slot], names(self._pool.address(slot))) for slot in busy])

    def _picks(self, names: _Names) -> tuple[Pick, ...]:
        waiting, now = self._waiting.picks, self._clock()
        return tuple([_pick(waiting.popleft(), names, now) for _ in range(min(MOST, len(waiting)))])

    def _add(self, line: deque[T], item: T) -> None:
        line.append(item)
        if len(line) > self._limit:
            line.popleft()
            self.dropped += 1
            self._seq += (
                1  # a gap, by which the others know that they know nothing of single requests any more
            )
        self.urgent()


def number(decision: str) -> int:
    """Return the number in a decision's id; 0 for a share of one, whose end nobody tells."""
    return 0 if decision.endswith(PREFILL) else int(decision.rpartition("-")[2], 16)


def _pick(told: _Told, names: _Names, now: float) -> Pick:
    entry = told.entry
    blocks, held = entry.blocks, entry.matched
    return Pick(
        0 if told.again else number(entry.id),
        names(told.address),
        names(entry.model),
        max(0, round((now - entry.picked_at) * 1000)),
        entry.prompt_tokens,
        entry.output_tokens,
        entry.context_tokens,
        held,
        blocks[held - 1] if held else 0,
        pack(blocks[held:]),
    )


def _move(told: _Moved, names: _Names) -> Move:
    entry = told.entry
    before, after = names(told.before), names(told.after)
    return Move(number(entry.id), before, after, told.prompt_tokens, entry.matched, pack(entry.blocks))


def _vector(load: Load, place: int) -> Vector:
    return Vector(
        place,
        load.requests,
        load.prompt_tokens,
        load.output_tokens,
        load.context_tokens,
        load.unseen,
        load.finished,
    )


def _ends(ends: Iterable[tuple[str, Ended]]) -> dict[str, tuple[msgspec.Raw, ...]]:
    found: dict[str, list[msgspec.Raw]] = {}
    for owner, end in ends:
        wire = End(
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
        found.setdefault(owner, []).append(encode_end(wire))
    return {owner: tuple(wires) for owner, wires in found.items()}


def _nobody() -> None:
    """Wake nobody."""
