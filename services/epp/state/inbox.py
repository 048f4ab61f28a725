"""What the other replicas tell of one pool, put into its state. Pure: bytes and their age come in.

A replica lives as long as it is heard of, by our own clock. What one that left had in flight is taken off; what it
taught of prefixes stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.epp.endpoints import Metrics
from services.epp.others import Foreign
from services.epp.pool import Pool
from services.epp.records import Ended
from services.epp.state import reading
from services.epp.state.interfaces import Band
from services.epp.state.reading import at, blocks_of
from services.epp.state.wire import Batch, Corrupt, Move, Pick, UnknownVersion, decode, decode_end

FRESH = 5.0
"""Seconds in which a prompt counts as work of its server: one that is told of later, after Redis was gone, is done."""
INSTRUCTIVE = 300.0
"""Seconds in which a request teaches how its server fares: what servers were like before is of no use."""
RETURN = 0.7
"""Seconds in which a proxy that lives opens a stream again somewhere: Envoy's first pause is half a second at most."""


class Sessions(Protocol):
    """Remembers where sessions belong."""

    def remember(self, pool: str, session: str, address: str, last: float) -> None:
        """Note that the session's request at `last`, a reading of our clock, went to `address`."""


@dataclass(slots=True)
class Heard:
    """Counts what came in."""

    batches: int = 0
    entries: int = 0
    bytes: int = 0
    unknown: int = 0
    """Batches of a version that is not known here."""
    corrupt: int = 0


class Inbox:
    """Listens for everybody but `owner`. `lease` is in seconds; `on_end` takes ends of requests picked here."""

    def __init__(
        self,
        pool: Pool,
        owner: str,
        *,
        clock: Callable[[], float],
        lease: float,
        on_end: Callable[[Ended], None],
    ) -> None:
        self.owner = owner
        self.heard = Heard()
        self.looks: dict[str, float] = {}
        """Address → when another replica asked it last, by our clock."""
        self.on_look: Callable[[], None] = _nobody
        """Called when servers were looked at."""
        self.sessions: Mapping[str, Sessions] = {}
        """Plugin → what it remembers."""
        self._pool = pool
        self._clock = clock
        self._lease = lease
        self._on_end = on_end
        self.holds: Callable[[str], bool] = _nothing
        """Says whether a proxy has a stream here."""
        self.object: Callable[[str], None] = _nowhere
        """Called with a proxy that is said to be gone and has one."""
        self.on_lost: Callable[[str], None] = _nowhere
        """Called with one that is gone."""
        self._lost: dict[str, float] = {}
        """Proxy → when it is taken for gone, unless somebody sees it until then."""
        self._last: dict[str, float] = {}
        self._seqs: dict[str, int] = {}

    def lives(self, owner: str) -> bool:
        """Say whether another replica called `owner` has been heard of lately."""
        last = self._last.get(owner)
        return last is not None and self._clock() - last < self._lease

    @property
    def living(self) -> list[str]:
        """The other replicas that live."""
        return [owner for owner in self._last if self.lives(owner)]

    def own(self, data: bytes) -> None:
        """Count a batch of ours, which is known without being read."""
        self.heard.batches += 1
        self.heard.bytes += len(data)

    def take(self, data: bytes, age: float) -> Batch | None:
        """Take in a batch that was told `age` seconds ago and return it.

        None for our own, and for what cannot be read, which is counted and left out.
        """
        self.own(data)
        try:
            batch = decode(data)
            if batch.owner == self.owner:
                return None
            self._last[batch.owner] = max(self._last.get(batch.owner, 0.0), self._clock() - age)
            self._apply(batch, age + batch.late_ms / 1000)
        except UnknownVersion:
            self.heard.unknown += 1
        except Corrupt:
            self.heard.corrupt += 1
        else:
            return batch
        return None

    def expire(self) -> list[str]:
        """Drop the load of those who have not been heard of for a lease, and return them."""
        gone = [owner for owner in self._last if not self.lives(owner)]
        self._drop(gone)
        self._lose()
        oldest = self._clock() - self._pool.limits.lease
        requests = self._pool.inflight.others.requests.values()
        for request in [one for one in requests if one.picked_at < oldest]:
            self._pool.inflight.unhear(request.id)
        return gone

    def leave(self) -> None:
        """Drop the load of everybody: nothing is heard any more."""
        self._drop(list(self._last))

    def _drop(self, owners: Sequence[str]) -> None:
        for owner in owners:
            del self._last[owner]
            self._seqs.pop(owner, None)
            self._forget_requests(owner)
            self._pool.waiting.pop(owner, None)
            for slot in self._pool.inflight.others.left(owner):
                self._pool.rest(slot)
        if owners:
            self._pool.news()

    def _apply(self, batch: Batch, age: float) -> None:
        owner, now = batch.owner, self._clock()
        last = self._seqs.get(owner)
        if last is not None and batch.seq <= last:
            return  # told twice, because nobody knew whether it got through
        if last is not None and batch.seq > last + 1:
            self._forget_requests(owner)
        self._seqs[owner] = batch.seq
        slots = [self._slot(name) for name in batch.names]
        for pick in batch.picks:
            self._pick(owner, pick, slots, batch.names, now - age)
        for move in batch.moves:
            self._move(f"{owner}-{move.number:x}", move, slots)
        self._ended(batch)
        if age < self._lease:
            self._count(batch, slots)
            self._look(batch, now - age)
            self._queue(batch)
            self._miss(batch, now - age)
        for end in batch.ends.get(self.owner, ()):
            self._on_end(reading.ended(self._pool.name, decode_end(end)))
        self._learn(batch, now - age, slots if age < INSTRUCTIVE else ())
        self.heard.entries += batch.entries

    def _slot(self, name: str) -> int:
        """Return the slot of the member called `name`; -1 without one."""
        server = self._pool.get(name)
        return -1 if server is None else server.slot

    def _pick(
        self, owner: str, pick: Pick, slots: Sequence[int], names: Sequence[str], told_at: float
    ) -> None:
        slot, blocks = at(slots, pick.endpoint), blocks_of(pick.blocks, pick.held)
        if slot < 0:
            return
        pool = self._pool
        pool.prefixes.record(slot, blocks, pick.held, pick.parent)
        if pick.again:
            return
        pool.pauses.end([pick.parent, *blocks][:-1])
        request = Foreign(
            id=f"{owner}-{pick.number:x}",
            slot=slot,
            picked_at=told_at - pick.age_ms / 1000,
            prompt_tokens=pick.prompt_tokens,
            output_tokens=pick.output_tokens,
            context_tokens=pick.context_tokens,
            tail=blocks[-1] if blocks else pick.parent,
            model=at(names, pick.model),
        )
        if self._clock() - request.picked_at < FRESH:
            self._heard(request, request.picked_at)
        else:
            request.mark = pool.fleet.paces[slot].sent
        if pick.number:
            pool.inflight.hear(request)

    def _heard(self, request: Foreign, at: float) -> None:
        load = self._pool.inflight.loads[request.slot]
        place = self._pool.fleet.heard(request, at, load.requests, load.context_tokens)
        request.ahead, request.mark = place.ahead, place.sent

    def _move(self, decision: str, move: Move, slots: Sequence[int]) -> None:
        before, after = at(slots, move.before), at(slots, move.after)
        blocks, pool = blocks_of(move.blocks, 0), self._pool
        if before >= 0:
            pool.prefixes.drop(before, blocks, max(0, move.held))
        if after < 0:
            return
        pool.prefixes.record(after, blocks)
        request = pool.inflight.unhear(decision)
        if request is not None:
            pool.fleet.unsent(request)
            request.slot, request.prompt_tokens, request.answered = after, move.prompt_tokens, False
            self._heard(request, self._clock())
            pool.inflight.hear(request)

    def _ended(self, batch: Batch) -> None:
        """Take off what a replica does not count any more; its totals come with the same batch."""
        pool = self._pool
        for number in batch.passed:
            request = pool.inflight.others.requests.get(f"{batch.owner}-{number:x}")
            if request is not None:
                pool.fleet.passed(request)
        for number in batch.gone:
            request = pool.inflight.unhear(f"{batch.owner}-{number:x}")
            if request is not None:
                pool.prefixes.freed(request.slot, request.tail)
                if request.tail and not request.answered:
                    pool.pauses.begin(
                        request.slot, request.tail, request.context_tokens + request.output_tokens
                    )

    def _count(self, batch: Batch, slots: Sequence[int]) -> None:
        loads = {at(slots, vector.endpoint): reading.load(vector) for vector in batch.vectors}
        loads.pop(-1, None)
        others = self._pool.inflight.others
        if batch.whole:
            others.only(batch.owner, loads)
        else:
            for slot, load in loads.items():
                others.told(batch.owner, slot, load)
        for slot, load in loads.items():
            if not load.requests:
                self._pool.rest(slot)
        if loads:
            self._pool.news()

    def _look(self, batch: Batch, told_at: float) -> None:
        """Take in what servers report that others asked."""
        pool = self._pool
        for report in batch.reports:
            address = at(batch.names, report.endpoint)
            metrics = reading.metrics(report, told_at)
            server = pool.get(address)
            if server is None or _older(metrics, server.metrics):
                continue
            if metrics.scraped_at > server.metrics.scraped_at:
                self.looks[address] = metrics.scraped_at
                pool.observe(address, metrics)
        for place in batch.missed:
            address = at(batch.names, place)
            self.looks[address] = told_at
            pool.miss(address)
        if batch.reports or batch.missed:
            self.on_look()

    def _queue(self, batch: Batch) -> None:
        """Take in what waits at another gate, and whose turn it was there."""
        for served in batch.served:
            self._pool.turn_taken(served.priority, served.flow, served.tokens)
        if batch.bands is not None:
            bands = tuple([Band(band.priority, band.requests, band.bytes) for band in batch.bands])
            if self._pool.waiting.get(batch.owner, ()) != bands:
                self._pool.waiting[batch.owner] = bands
                self._pool.news()

    def _miss(self, batch: Batch, told_at: float) -> None:
        """Take in which proxies have left another replica, and which were seen by one."""
        for proxy in batch.lost:
            if self.holds(proxy):
                self.object(proxy)
            else:
                self._lost[proxy] = told_at + RETURN
        for proxy in batch.held:
            self._lost.pop(proxy, None)

    def _lose(self) -> None:
        for proxy in [proxy for proxy, due in self._lost.items() if self._clock() >= due]:
            del self._lost[proxy]
            if not self.holds(proxy):
                self.on_lost(proxy)

    def _learn(self, batch: Batch, told_at: float, slots: Sequence[int]) -> None:
        """Take in how servers fare, unless that was too long ago to have `slots`, and where sessions belong."""
        for taught in batch.lessons if slots else ():
            if (slot := at(slots, taught.endpoint)) >= 0:
                self._pool.fleet.learn(slot, reading.lesson(taught))
        for binding in batch.sessions:
            plugin = self.sessions.get(at(batch.names, binding.plugin))
            if plugin is not None:
                address = at(batch.names, binding.endpoint)
                plugin.remember(self._pool.name, binding.session, address, told_at - binding.age_ms / 1000)

    def _forget_requests(self, owner: str) -> None:
        for request in list(self._pool.inflight.others.of(owner)):
            self._pool.inflight.unhear(request.id)


def _nobody() -> None:
    """Wait for nothing."""


def _nothing(_: str) -> bool:
    return False


def _nowhere(_: str) -> None:
    """Tell nobody."""


def _older(metrics: Metrics, known: Metrics) -> bool:
    """Say whether a look counts less than is known of the same process: it was held up on its way.

    Where a server does not tell when it started, it may also have started anew. Then nothing is believed of it until
    its looks are so old that this replica asks it itself, and sees.
    """
    return metrics.restarted_since(known) and metrics.started_at <= known.started_at
