"""What this replica has to tell the others about one pool: bounded, oldest first, and gathered into batches.

Everything here is quick: the request path calls it. Batches are made elsewhere, a few hundred a second at most.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from services.epp.cost.lesson import Lesson
from services.epp.endpoints import Metrics
from services.epp.inflight import Entry
from services.epp.load import Load
from services.epp.pool import Pool
from services.epp.records import Ended
from services.epp.state import wire
from services.epp.state.interfaces import Band
from services.epp.state.lease import EndpointShare
from services.epp.state.wire import VERSION, Batch
from services.epp.state.writing import (
    Moved,
    Names,
    Told,
    age,
    ends,
    lesson,
    move,
    number,
    pick,
    report,
    vector,
)
from services.openai.digest import prefix_bytes

MOST = 100
"""Picks in one batch: some 3 ms for a reader, whose requests wait for it."""
SEED = 1_000
"""Latest picks that are told again when Redis has lost them."""
LESSONS = 25
"""Told each second at most: more of them say the same, and each costs all readers some 30 µs."""
LONGEST_SESSION = 256
"""Characters of a session's id that is told: a client chooses it."""
IDLE = Load()

T = TypeVar("T")


@dataclass(slots=True)
class _Sent:
    """All that was ever sent to one server from here."""

    picks: int = 0
    prompt_bytes: int = 0
    matched_bytes: int = 0


@dataclass(slots=True)
class _Waiting:
    """What has not been told yet, each kind bounded."""

    picks: deque[Told] = field(default_factory=deque)
    moves: deque[Moved] = field(default_factory=deque)
    passed: deque[int] = field(default_factory=deque)
    gone: deque[int] = field(default_factory=deque)
    ends: deque[tuple[str, Ended]] = field(default_factory=deque)
    lessons: deque[tuple[str, Lesson]] = field(default_factory=deque)
    sessions: deque[tuple[str, str, str, float]] = field(default_factory=deque)
    """Plugin, session, address and time."""
    served: deque[tuple[int, str, int]] = field(default_factory=deque)
    """Priority, flow and tokens."""
    lost: deque[str] = field(default_factory=deque)
    held: deque[str] = field(default_factory=deque)
    """Proxies."""
    looks: dict[str, Metrics | None] = field(default_factory=dict)
    """Address → its latest metrics; None for a failure."""
    bands: Sequence[Band] | None = None
    """What waits at the gate; None if that has not changed."""

    @property
    def _lines(self) -> tuple[deque[Any] | dict[str, Metrics | None], ...]:
        return (
            self.picks,
            self.moves,
            self.passed,
            self.gone,
            self.ends,
            self.lessons,
            self.sessions,
            self.served,
            self.lost,
            self.held,
            self.looks,
        )

    def __bool__(self) -> bool:
        return any(self._lines) or self.bands is not None

    def clear(self) -> None:
        for line in self._lines:
            line.clear()
        self.bands = None


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
        self._recent: deque[Told] = deque(maxlen=SEED)
        self._sent: dict[str, _Sent] = {}
        self._bands: Sequence[Band] = ()
        self._next_lesson = -math.inf
        self._seq = 0

    def picked(self, entry: Entry) -> None:
        """Tell of a pick."""
        address = self._pool.address(entry.slot)
        told = Told(entry, address)
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
        self._add(self._waiting.moves, Moved(entry, before, after, prompt_tokens))

    def learnt(self, entry: Entry, taught: Lesson) -> None:
        """Tell that a prompt has been computed, and how its server fared."""
        if taught.completed and (id_ := number(entry.id)):
            self._add(self._waiting.passed, id_)
        now = self._clock()
        if now >= self._next_lesson:
            self._next_lesson = now + 1 / LESSONS
            self._add(self._waiting.lessons, (self._pool.address(entry.slot), taught))

    def observed(self, address: str, metrics: Metrics) -> None:
        """Tell what a server reports."""
        self._waiting.looks[address] = metrics

    def missed(self, address: str) -> None:
        """Tell that a server did not answer."""
        self._waiting.looks[address] = None

    def bound(self, plugin: str, session: str, address: str) -> None:
        """Tell where a session belongs, by the plugin of that name."""
        if len(session) <= LONGEST_SESSION:
            self._add(self._waiting.sessions, (plugin, session, address, self._clock()))

    def queued(self, bands: Sequence[Band]) -> None:
        """Tell what waits at the gate."""
        self._bands = self._waiting.bands = bands
        self.urgent()

    def served(self, priority: int, flow: str, tokens: int) -> None:
        """Tell whose turn it was."""
        self._add(self._waiting.served, (priority, flow, tokens))

    def uncounted(self, entry: Entry) -> None:
        """Tell that a request counts no more."""
        if id_ := number(entry.id):
            self._add(self._waiting.gone, id_)

    def ended(self, owner: str, end: Ended) -> None:
        """Tell `owner` how one of its requests ended."""
        self._add(self._waiting.ends, (owner, end))

    def lost(self, proxy: str) -> None:
        """Tell that a proxy closed its last stream here."""
        self._add(self._waiting.lost, proxy)

    def held(self, proxy: str) -> None:
        """Tell that a proxy lives: it has a stream here."""
        self._add(self._waiting.held, proxy)

    def seed(self) -> None:
        """Tell the latest picks once more."""
        waiting = [told for told in self._waiting.picks if not told.again]
        ids = {id(told) for told in waiting}
        again = [Told(one.entry, one.address, again=True) for one in self._recent if id(one) not in ids]
        self._waiting.picks = deque([*again, *waiting])
        self.urgent()

    def take(self, *, whole: bool) -> Batch | None:
        """Return the next batch; None when there is nothing to tell. `whole`: with all loads, changed or not.

        Where more picks wait than fit, the batch has nothing else, also not all loads: what came later waits for them.
        """
        names, waiting = Names(), self._waiting
        changed = self._pool.inflight.changed
        if not (whole or changed or waiting):
            return None
        self._seq += 1
        picks = self._picks(names)
        if waiting.picks:
            batch = Batch(VERSION, self.owner, self._seq, whole=False, names=names.all(), picks=picks)
        else:
            batch = self._all(picks, names, whole=whole)
            waiting.clear()
        self.told += batch.entries
        return batch

    def shares(self, scrapes: Callable[[str], bool]) -> tuple[EndpointShare, ...]:
        """Return what this replica has to do with each server of the pool, and whether it `scrapes` it."""
        for address in [one for one in self._sent if self._pool.get(one) is None]:
            del self._sent[address]
        return tuple(
            [
                msgspec.structs.replace(
                    self._share(server.address, server.slot), scrapes=scrapes(server.address)
                )
                for server in self._pool.snapshot.servers
            ]
        )

    def _all(self, picks: tuple[wire.Pick, ...], names: Names, *, whole: bool) -> Batch:
        waiting, now = self._waiting, self._clock()
        bands = self._bands if whole else waiting.bands
        looks = {names(address): metrics for address, metrics in waiting.looks.items()}
        return Batch(
            VERSION,
            self.owner,
            self._seq,
            whole=whole,
            picks=picks,
            moves=tuple([move(one, names) for one in waiting.moves]),
            passed=tuple(waiting.passed),
            gone=tuple(waiting.gone),
            vectors=self._vectors(names, whole=whole),
            ends=ends(waiting.ends),
            reports=tuple([report(one, place, now) for place, one in looks.items() if one is not None]),
            missed=tuple([place for place, one in looks.items() if one is None]),
            lessons=tuple([lesson(taught, names(address)) for address, taught in waiting.lessons]),
            sessions=tuple(
                [
                    wire.Binding(names(plugin), session, names(address), age(at, now))
                    for plugin, session, address, at in waiting.sessions
                ]
            ),
            bands=None if bands is None else tuple([wire.Band(*band) for band in bands]),
            served=tuple([wire.Served(priority, flow, tokens) for priority, flow, tokens in waiting.served]),
            lost=tuple(waiting.lost),
            held=tuple(waiting.held),
            names=names.all(),
        )

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

    def _vectors(self, names: Names, *, whole: bool) -> tuple[wire.Vector, ...]:
        inflight = self._pool.inflight
        if whole:
            busy = [
                server.slot for server in self._pool.snapshot.servers if inflight.own[server.slot] != IDLE
            ]
        else:
            busy = list(inflight.changed)
        inflight.changed.clear()
        return tuple([vector(inflight.own[slot], names(self._pool.address(slot))) for slot in busy])

    def _picks(self, names: Names) -> tuple[wire.Pick, ...]:
        waiting, now = self._waiting.picks, self._clock()
        return tuple([pick(waiting.popleft(), names, now) for _ in range(min(MOST, len(waiting)))])

    def _add(self, line: deque[T], item: T) -> None:
        line.append(item)
        if len(line) > self._limit:
            line.popleft()
            self.dropped += 1
            self._seq += (
                1  # a gap, by which the others know that they know nothing of single requests any more
            )
        self.urgent()


def _nobody() -> None:
    """Wake nobody."""
