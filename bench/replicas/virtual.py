"""Several pickers in virtual time: real directors that share what they know over a stream with a delay.

The engines and the workloads are those of `bench.routing`. Nothing is left to chance but the draw, so that a difference
is the state's: news are known to all others exactly `delay` seconds after they happened, and the machine takes no time.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from bench.routing.cells import capacities, rate_of
from bench.routing.fleet import Fleet
from bench.routing.measure import Row, measure
from bench.routing.policies.base import Choice, End, Policy, Surroundings
from bench.routing.policies.picker import Picker
from bench.routing.turns import Turn
from bench.routing.workloads import WORKLOADS
from bench.routing.workloads.base import arrivals
from bench.routing.world import Arrival, World
from services.epp.endpoints import Metrics
from services.epp.records import Ended, Release
from services.epp.state import Alone
from services.epp.state.link import BEATS, Pacing
from services.epp.state.share import Replica, Share
from services.epp.state.wire import encode

LIMIT = 20_000
UNSIGNED = (1 << 64) - 1
LEASE = Pacing().lease


@dataclass(frozen=True, slots=True)
class Sharing:
    """How many replicas there are, and how late each knows what another did, in seconds; None: never."""

    replicas: int
    delay: float | None


class _Passing:
    """Tells the replica that picked how a request ended."""

    def __init__(self) -> None:
        self.share: Share | None = None

    def pass_on(self, end: Ended) -> bool:
        return self.share is not None and self.share.pass_on(end)


class _Stream:
    """Brings news to everybody, at their time and in the order in which they were told."""

    def __init__(self, clock: Callable[[], float], delay: float) -> None:
        self._clock = clock
        self._delay = delay
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._moment: float | None = None
        self.shares: list[Share] = []
        self._writing: set[int] = set()

    def now(self) -> float:
        """Return the time of what happens now, which may be past by the world's clock."""
        return self._clock() if self._moment is None else self._moment

    def join(self, share: Share, start: float) -> None:
        """Take a replica in."""
        number = len(self.shares)
        self.shares.append(share)
        share.outbox.urgent = partial(self._urgent, number)
        self._at(start, partial(self._beat, number))

    def flow(self) -> None:
        """Let everything happen that was to happen until now."""
        until = self._clock()
        while self._events and self._events[0][0] <= until:
            self._moment, _, action = heapq.heappop(self._events)
            action()
        self._moment = None

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), action))

    def _urgent(self, number: int) -> None:
        if number not in self._writing:
            self._writing.add(number)
            self._at(self.now(), partial(self._write, number, whole=False))

    def _beat(self, number: int) -> None:
        self._write(number, whole=True)
        self.shares[number].inbox.expire()
        self._at(self.now() + LEASE / BEATS, partial(self._beat, number))

    def _write(self, number: int, *, whole: bool) -> None:
        self._writing.discard(number)
        while (batch := self.shares[number].outbox.take(whole=whole)) is not None:
            self._at(self.now() + self._delay, partial(self._read, number, encode(batch)))
            if whole and batch.whole:
                break

    def _read(self, number: int, data: bytes) -> None:
        for reader, share in enumerate(self.shares):
            if reader != number:
                share.inbox.take(data, self._delay)


class Replicas(Policy):
    """Several pickers; a proxy gives each request to any of them, and tells one of them all ends.

    Where nothing is shared each is told its own ends, which is more than it would get.
    """

    knows_end_after = Picker.knows_end_after
    scrape_every = Picker.scrape_every

    def __init__(self, around: Surroundings, sharing: Sharing) -> None:
        super().__init__(around)
        self._stream = None if sharing.delay is None else _Stream(around.clock, sharing.delay)
        self._rng = random.Random(around.rng.getrandbits(64))
        self._pickers: list[Picker] = []
        self._shares: list[Share] = []
        for number in range(sharing.replicas):
            self._add(f"{number + 1:08x}")

    def choose(self, turn: Turn, ready: Sequence[int]) -> Choice:
        """Ask any replica."""
        self._flow()
        return self._rng.choice(self._pickers).choose(_unsigned(turn), ready)

    def ended(self, turn: Turn, choice: Choice, server: int, end: End) -> None:
        """Tell the replica that has the proxy's log, or where nothing is shared the one that picked."""
        self._flow()
        number = 0 if self._shares else int(choice.id.partition("-")[0], 16) - 1
        self._pickers[number].ended(turn, choice, server, end)

    def scraped(self, server: int, metrics: Metrics) -> None:
        """Tell the replica whose turn it is to ask the server; it tells the others."""
        self._flow()
        for number, picker in enumerate(self._pickers):
            name = picker.names[server]
            if not self._shares:
                picker.scraped(server, metrics)
            elif self._shares[number].turn(name, self.scrape_every):
                picker.scraped(server, metrics)
                self._shares[number].outbox.observed(name, metrics)

    def missed(self, server: int) -> None:
        """Tell all: who asks for whom is of no interest here."""
        for picker in self._pickers:
            picker.missed(server)

    def _add(self, owner: str) -> None:
        stream, state = self._stream, _Passing()
        clock = self.around.clock if stream is None else stream.now
        around = Surroundings(clock, random.Random(self._rng.getrandbits(64)), self.around.engines)
        picker = Picker(around, state=Alone() if stream is None else state, instance=owner)
        self._pickers.append(picker)
        if stream is None:
            return

        def on_end(end: Ended) -> None:
            picker.director.finish(end, Release.ACCESS_LOG)

        state.share = Share(
            picker.pool,
            Replica(owner, owner, clock()),
            prefix="igw",
            clock=clock,
            lease=LEASE,
            limit=LIMIT,
            on_end=on_end,
        )
        self._shares.append(state.share)
        stream.join(state.share, clock())

    def _flow(self) -> None:
        if self._stream is not None:
            self._stream.flow()


def play(sharing: Sharing, fleet: Fleet, arrivals: Sequence[Arrival], seed: int) -> Row:
    """Return what came of `arrivals` with so many replicas."""
    world = World(lambda around: Replicas(around, sharing), fleet, arrivals, seed)
    return measure(world.run(), fleet, arrivals[-1][0])


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. `delay` in seconds; None: nothing is shared."""

    load: str
    seed: int
    replicas: int
    delay: float | None
    row: Row


SERVERS = 8
DELAYS = (0.0, 0.005, 0.02, 0.05, None)


@dataclass(frozen=True, slots=True)
class Load:
    """A workload of `bench.routing`, `scale` times its usual requests: 15 is all of the trace."""

    workload: str
    scale: float
    seeds: int
    even: bool = False
    """They come evenly. The trace's own times are rounded: many requests come at the very same moment, when nobody can
    know of the others."""


LOADS: Mapping[str, Load] = {
    "conversations": Load("tenants", 1.0, seeds=3),
    "trace": Load("conversation", 3.0, seeds=2, even=True),
    "trace, its own times": Load("conversation", 15.0, seeds=1),
}


def table(replicas: Sequence[int], loads: Sequence[str]) -> Iterator[Cell]:
    """Play the loads at nine tenths of what round robin sustains, and yield what came of each."""
    for load in loads:
        for seed in range(1, LOADS[load].seeds + 1):
            for count in replicas:
                for delay in DELAYS if count > 1 else (None,):
                    yield cell(load, seed, Sharing(count, delay))


def cell(load: str, seed: int, sharing: Sharing) -> Cell:
    """Play one load with so many replicas."""
    of = LOADS[load]
    workload = WORKLOADS[of.workload]
    fleet = replace(workload.fleet, servers=SERVERS)
    rate = rate_of(of.workload, "near", capacities()[of.workload]) * SERVERS / workload.fleet.servers
    coming = arrivals(workload.plan(seed, of.scale), rate)
    if of.even:
        step = coming[-1][0] / len(coming)
        coming = [(number * step, turn) for number, (_, turn) in enumerate(coming)]
    return Cell(load, seed, sharing.replicas, sharing.delay, play(sharing, fleet, coming, seed))


def markdown(cells: Sequence[Cell]) -> str:
    """Return the table: means over the seeds, and each hit rate over that of one replica with the same seed."""
    lines = [
        "| load | replicas | delay ms | hit rate | of one replica's | imbalance | first token p50, p99 ms |",
        f"|{'---|' * 7}",
    ]
    groups: dict[tuple[str, int, float | None], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.load, cell.replicas, cell.delay), []).append(cell)
    one = {(cell.load, cell.seed): cell.row for cell in cells if cell.replicas == 1}
    for (load, count, delay), group in groups.items():
        rows = [cell.row for cell in group]
        ratios = [
            cell.row.hits / one[cell.load, cell.seed].hits for cell in group if (cell.load, cell.seed) in one
        ]
        told = "" if count == 1 else "alone" if delay is None else f"{1000 * delay:.0f}"
        lines.append(
            f"| {load} | {count} | {told} | {fmean(row.hits for row in rows):.1%} | "
            f"{fmean(ratios) if ratios else math.nan:.3f} | {fmean(row.imbalance for row in rows):.2f} | "
            f"{fmean(row.ttft_p50 for row in rows):.0f}, {fmean(row.ttft_p99 for row in rows):.0f} |"
        )
    return "\n".join(lines)


def _unsigned(turn: Turn) -> Turn:
    """Return `turn` with its hashes as they are outside Python: they travel as eight bytes without a sign."""
    blocks = tuple([block & UNSIGNED for block in turn.digest.blocks])
    return replace(turn, digest=replace(turn.digest, blocks=blocks))
