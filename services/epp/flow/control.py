"""Hold requests at the gate of a full pool, and let them in as room appears. The clockwork around `queues`.

Nothing ticks: the gate is tried when a request arrives, when one ends, and when news of the servers come. A request
that is let in is placed at that moment, so that the next one is judged by the load with it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.epp.director import DROPPED, Ask, Director, Reservation
from services.epp.flow.loans import Loan, Loans
from services.epp.flow.policies import Item
from services.epp.flow.queues import Full, Queues
from services.epp.flow.settings import Settings
from services.epp.pool import Pool
from services.epp.records import Enqueued, Evicted, Observer, Release, Waited, WaitOutcome
from services.epp.state import Band
from services.extproc.errors import ExtProcError, Overloaded, Unavailable

COURTESY = 0.05
"""Seconds in which another replica can take a place that is left to it: several times what news take."""
EARLY = 0.5
"""Seconds by which a wait ends before the time that the proxy was asked for: the answer must be the first."""


class Ticket:
    """A place in the queue. Whoever takes one calls `leave` in the end, whatever happened."""

    def __init__(self, gate: _Gate, ask: Ask, item: Item, future: asyncio.Future[Reservation]) -> None:
        self.seconds = max(0.0, item.deadline - item.arrived)
        """How long it is good for."""
        self.ask = ask
        self.item = item
        self.future = future
        self._gate = gate
        self._collected = False

    async def turn(self) -> Reservation:
        """Wait for the turn. Raises `Overloaded` (429) or `Unavailable` (503) when it does not come in time."""
        try:
            async with asyncio.timeout(self.seconds):
                reservation = await self.future
        except TimeoutError as error:
            if self.future.cancelled():  # and not placed in the very moment in which the time was up
                raise self._gate.expire(self) from error
            reservation = self.future.result()
        self._collected = True
        return reservation

    def leave(self) -> None:
        """Give up the place, and what was reserved and not collected."""
        self._gate.leave(self)
        done = self.future.done() and not self.future.cancelled() and self.future.exception() is None
        if done and not self._collected:
            reservation = self.future.result()
            self._gate.director.release(reservation.pool.name, reservation.id, Release.RESPONSE)


class FlowControl:
    """The gates of all pools. `now` is a monotonic clock in seconds."""

    def __init__(
        self, director: Director, settings: Settings, *, now: Callable[[], float], observer: Observer
    ) -> None:
        self.settings = settings
        self._director = director
        self._now = now
        self._observer = observer
        self._ids = itertools.count()
        self._gates: dict[str, _Gate] = {}

    def enter(self, ask: Ask) -> Reservation | Ticket:
        """Place `ask` at once if there is room and nobody waits, else return its ticket.

        Raises what `Director.pick` does, and `Overloaded` when the queue is full.
        """
        pool = self._director.pool(ask.pool)
        gate = self._gates.get(pool.name)
        if gate is None or gate.pool is not pool:
            gate = self._gates[pool.name] = _Gate(
                pool, self._director, self.settings, self._now, self._observer
            )
            pool.news = gate.open
            pool.turn_taken = gate.turn_taken
        began, priority, outcome = self._now(), self._director.priority(ask), WaitOutcome.DISPATCHED
        try:
            entered = gate.enter(ask, priority, next(self._ids))
            if isinstance(entered, Ticket):
                outcome = WaitOutcome.WAITS
        except Overloaded:
            outcome = WaitOutcome.FULL
            raise
        finally:
            self._observer.enqueued(Enqueued(priority, ask.fairness, outcome, self._now() - began))
        return entered

    def lend(self, reservation: Reservation, ask: Ask) -> Loan | None:
        """Return the loan of a request that may be taken back until its answer begins; None of any other."""
        priority = self._director.priority(ask)
        gate = self._gates.get(reservation.pool.name)
        if priority >= 0 or gate is None or not self.settings.evicts:
            return None
        return gate.loans.lend(reservation.id, priority)

    def waiting(self) -> Iterator[Waiting]:
        """Yield what waits now, by pool, priority and flow."""
        for gate in self._gates.values():
            yield from gate.waiting()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits of one flow."""

    pool: str
    priority: int
    flow: str
    model: str
    requests: int
    bytes: int


class _Gate:
    """The queue of one pool."""

    def __init__(
        self,
        pool: Pool,
        director: Director,
        settings: Settings,
        now: Callable[[], float],
        observer: Observer,
    ) -> None:
        self.pool = pool
        self.director = director
        self._settings = settings
        self._now = now
        self._observer = observer
        self._queues = Queues(settings.limits)
        self.loans = Loans()
        self._tickets: dict[int, Ticket] = {}
        self._yielding: float | None = None
        """Since when a place is left to another replica."""

    def enter(self, ask: Ask, priority: int, number: int) -> Reservation | Ticket:
        item = self._item(ask, priority, number)
        self._hear()
        if not len(self._queues) and self._has_room() and not self._yields(item):
            reservation = self.director.pick(ask)
            self._tell(ask, item, WaitOutcome.DISPATCHED)
            return reservation
        try:
            evicted = self._queues.add(item)
        except Full as error:
            self._tell(ask, item, WaitOutcome.FULL)
            raise self.director.refused(
                ask, self._saturated(f"{error.what} of pool {self.pool.name!r} is full")
            ) from error
        for victim in evicted:
            self._evict(victim)
        future: asyncio.Future[Reservation] = asyncio.get_running_loop().create_future()
        ticket = self._tickets[item.id] = Ticket(self, ask, item, future)
        self.open()
        if item.id in self._tickets:
            self._take_back(item)
        self._say()
        return ticket

    def open(self) -> None:
        """Let in as many as there is room for."""
        self._hear()
        before = len(self._queues)
        if not before:
            return
        began = self._now()
        while (item := self._queues.first()) is not None and self._has_room():
            if self._yields(item):
                break
            self._queues.serve(item)
            self.pool.listener.served(item.priority, item.flow, item.tokens)
            self._place(self._tickets.pop(item.id))
        else:
            self._yielding = None
        if len(self._queues) != before:
            self._say()
        self._observer.dispatched(self._now() - began)

    def _take_back(self, item: Item) -> None:
        """Make room for a request that has to wait: one place for each, when it comes.

        The place is free at once by our own count. Where a server has to report first, its next report opens the gate.
        """
        if not self._ready():
            return
        while (loan := self.loans.first(below=item.priority)) is not None:
            if (entry := self.pool.inflight.get(loan.decision)) is not None:
                break
            loan.settle()  # it ended, and its stream does not know yet
        else:
            return
        told = (("retry-after", self._retry_after()), (DROPPED, "evicted-priority"))
        message = f"pool {self.pool.name!r} is full, and a request of a higher priority came"
        loan.take(Overloaded(message, reason="evicted", headers=told))
        seconds = self._now() - entry.picked_at
        self._observer.evicted(Evicted(self.pool.name, entry.model, entry.priority, seconds))
        self.director.release(self.pool.name, loan.decision, Release.EVICTED)

    def turn_taken(self, priority: int, flow: str, tokens: int) -> None:
        """Note that a request had its turn at another replica's gate."""
        self._queues.turn_taken(priority, flow, tokens)

    def _yields(self, item: Item) -> bool:
        """Say whether a place is left to another replica, where somebody of a higher priority waits.

        Not for long: that replica may have no use for it, or have died.
        """
        if all(band.priority <= item.priority for bands in self.pool.waiting.values() for band in bands):
            return False
        now = self._now()
        if self._yielding is None:
            self._yielding = now
            # A little later than needed: clocks differ in their last digits.
            asyncio.get_running_loop().call_later(1.1 * COURTESY, self.open)
        return now - self._yielding < COURTESY

    def _say(self) -> None:
        """Tell other replicas what waits here."""
        self.pool.listener.queued([Band(*band) for band in self._queues.bands()])

    def _hear(self) -> None:
        """Count what waits at other replicas."""
        sums: dict[int, tuple[int, int]] = {}
        for bands in self.pool.waiting.values():
            for band in bands:
                requests, size = sums.get(band.priority, (0, 0))
                sums[band.priority] = (requests + band.requests, size + band.bytes)
        self._queues.elsewhere = sums

    def expire(self, ticket: Ticket) -> ExtProcError:
        """Take out a request whose time is up; return what its client is told."""
        self._take(ticket)
        if self._ready():
            self._tell(ticket.ask, ticket.item, WaitOutcome.EXPIRED)
            return self.director.refused(
                ticket.ask,
                Overloaded(
                    f"no server of pool {self.pool.name!r} became free in {ticket.seconds:g} s",
                    reason="ttl_expired",
                    headers=(("retry-after", self._retry_after()), (DROPPED, "rejected-ttl-expired")),
                ),
            )
        self._tell(ticket.ask, ticket.item, WaitOutcome.NO_ENDPOINTS)
        return self.director.refused(
            ticket.ask,
            Unavailable(
                f"no server of pool {self.pool.name!r} became ready in {ticket.seconds:g} s",
                reason="no_endpoint",
                headers=((DROPPED, "rejected-no-endpoints"),),
            ),
        )

    def leave(self, ticket: Ticket) -> None:
        """Take out a request whose client left; nothing happens when it is not in any more."""
        if self._take(ticket):
            self._tell(ticket.ask, ticket.item, WaitOutcome.CLIENT_LEFT)
            self.open()  # it may have been the one that had no room

    def waiting(self) -> Iterator[Waiting]:
        sums: dict[tuple[int, str, str], list[int]] = {}
        for ticket in self._tickets.values():
            item = ticket.item
            total = sums.setdefault((item.priority, item.flow, ticket.ask.digest.model), [0, 0])
            total[0] += 1
            total[1] += item.bytes
        for (priority, flow, model), (requests, size) in sums.items():
            yield Waiting(self.pool.name, priority, flow, model, requests, size)

    def _item(self, ask: Ask, priority: int, number: int) -> Item:
        now, digest, settings = self._now(), ask.digest, self._settings
        patience = settings.patience(priority, ready=self._ready(), asked=ask.ttl)
        return Item(
            number,
            priority,
            ask.fairness,
            tokens=digest.prompt_tokens + round(self.pool.fleet.typical.output(digest.max_tokens)),
            bytes=digest.prompt_bytes,
            arrived=now,
            deadline=now + min(patience, settings.max_wait - EARLY),
            target=now + ask.first_token_slo,
        )

    def _has_room(self) -> bool:
        self.pool.inflight.expire()
        return self._ready() and self.director.saturation(self.pool) < 1.0

    def _ready(self) -> bool:
        return any(server.ready for server in self.pool.snapshot.servers)

    def _place(self, ticket: Ticket) -> None:
        if ticket.future.done():  # its client is leaving, and has not yet said so
            return
        try:
            ticket.future.set_result(self.director.pick(ticket.ask))
        except ExtProcError as error:
            ticket.future.set_exception(error)
        self._tell(ticket.ask, ticket.item, WaitOutcome.DISPATCHED)

    def _evict(self, item: Item) -> None:
        ticket = self._tickets.pop(item.id)
        self._tell(ticket.ask, item, WaitOutcome.EVICTED)
        if not ticket.future.done():
            error = self._saturated(f"pool {self.pool.name!r} is full, and others go first")
            ticket.future.set_exception(self.director.refused(ticket.ask, error))

    def _take(self, ticket: Ticket) -> bool:
        self._tickets.pop(ticket.item.id, None)
        if not self._queues.remove(ticket.item):
            return False
        self._say()
        return True

    def _tell(self, ask: Ask, item: Item, outcome: WaitOutcome) -> None:
        self._observer.waited(
            Waited(
                pool=self.pool.name,
                model=ask.digest.model,
                priority=item.priority,
                fairness=item.flow,
                outcome=outcome,
                seconds=self._now() - item.arrived,
            )
        )

    def _retry_after(self) -> str:
        return self.director.retry_after(self.pool, len(self._queues))

    def _saturated(self, message: str) -> Overloaded:
        told = (("retry-after", self._retry_after()), (DROPPED, "rejected-saturated"))
        return Overloaded(message, reason="saturated", headers=told)
