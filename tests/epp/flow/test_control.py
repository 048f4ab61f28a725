"""The gate of a pool: who is let in when, who gives up, and that nothing is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.epp.director import Ask, Director, Reservation
from services.epp.endpoints import Metrics
from services.epp.flow.control import FlowControl, Ticket
from services.epp.flow.queues import Band, Limits
from services.epp.flow.settings import Settings
from services.epp.records import Enqueued, Release, Silent, Waited, WaitOutcome
from services.epp.scheduling.saturation import Concurrency
from services.extproc.errors import ExtProcError, Overloaded, Unavailable
from services.openai.digest import Digest
from tests.epp.world import Clock, address, director_of, pool_of


class Recorder(Silent):
    def __init__(self) -> None:
        self.outcomes: list[WaitOutcome] = []
        self.entered: list[WaitOutcome] = []
        self.turns: list[float] = []

    def enqueued(self, enqueued: Enqueued) -> None:
        self.entered.append(enqueued.outcome)

    def dispatched(self, seconds: float) -> None:
        self.turns.append(seconds)

    def waited(self, waited: Waited) -> None:
        self.outcomes.append(waited.outcome)


class Rig:
    """Two servers that take one request each."""

    def __init__(self, settings: Settings | None = None, *, each: int = 1) -> None:
        self.clock, self.seen = Clock(), Recorder()
        self.pool = pool_of(2, self.clock)
        self.director: Director = director_of(
            self.pool,
            clock=self.clock,
            objectives={"high": 10, "batch": -1},
            observer=self.seen,
            detector=Concurrency(max_concurrency=each),
            sheds=False,
        )
        self.flow = FlowControl(self.director, settings or Settings(), now=self.clock, observer=self.seen)

    def enter(self, objective: str = "", **more: object) -> Reservation | Ticket:
        return self.flow.enter(Ask(Digest("m", prompt_bytes=100), objective=objective, **more))  # type: ignore[arg-type]  # by name

    def wait(self, objective: str = "", **more: object) -> Ticket:
        ticket = self.enter(objective, **more)
        assert isinstance(ticket, Ticket)
        return ticket

    def fill(self) -> list[Reservation]:
        filled = [self.enter(), self.enter()]
        assert all(isinstance(one, Reservation) for one in filled)
        return filled  # type: ignore[return-value]  # asserted above

    def release(self, reservation: Reservation) -> None:
        self.director.release("llama", reservation.id, Release.ACCESS_LOG)

    @property
    def in_flight(self) -> int:
        return len(self.pool.inflight)


async def refused(ticket: Ticket) -> ExtProcError:
    with pytest.raises(ExtProcError) as refusal:
        await ticket.turn()
    ticket.leave()
    return refusal.value


async def test_with_room_nobody_waits():
    """And the third of two places does."""
    rig = Rig()
    rig.fill()
    assert isinstance(rig.enter(), Ticket)
    assert rig.seen.outcomes == [WaitOutcome.DISPATCHED] * 2


async def test_an_end_lets_in_exactly_one():
    """Each is placed before the next is judged."""
    rig = Rig()
    first, _ = rig.fill()
    tickets = [rig.wait() for _ in range(3)]
    rig.release(first)
    assert [ticket.future.done() for ticket in tickets] == [True, False, False]
    assert rig.in_flight == 2
    reservation = await tickets[0].turn()
    rig.release(reservation)
    assert [ticket.future.done() for ticket in tickets] == [True, True, False]


async def test_fresh_metrics_open_the_gate():
    """A server that comes back brings room."""
    rig = Rig()
    for slot in range(2):
        for _ in range(9):
            rig.pool.miss(address(slot))
    ticket = rig.wait()
    rig.pool.observe(address(0), Metrics(scraped_at=rig.clock()))
    assert (await ticket.turn()).decision.servers[0].address == address(0)


async def test_higher_priorities_overtake():
    """Whoever came first."""
    rig = Rig()
    first, second = rig.fill()
    batch, plain, high = rig.wait("batch"), rig.wait(), rig.wait("high")
    rig.release(first)
    rig.release(second)
    assert [ticket.future.done() for ticket in (batch, plain, high)] == [False, True, True]


async def test_a_wait_has_an_end():
    """429, with the reason and when to try again; 503 while no server is ready."""
    rig = Rig()
    rig.fill()
    error = await refused(rig.wait(ttl=0.0))
    assert isinstance(error, Overloaded)
    assert dict(error.headers) == {
        "retry-after": "2",  # two are there, and take 4 s each
        "x-llm-d-request-dropped-reason": "rejected-ttl-expired",
    }
    waiting = rig.wait(ttl=0.0)
    for slot in range(2):
        for _ in range(9):
            rig.pool.miss(address(slot))
    error = await refused(waiting)
    assert isinstance(error, Unavailable)
    assert dict(error.headers) == {"x-llm-d-request-dropped-reason": "rejected-no-endpoints"}
    assert rig.seen.outcomes[2:] == [WaitOutcome.EXPIRED, WaitOutcome.NO_ENDPOINTS]
    assert list(rig.flow.waiting()) == []


async def test_a_client_can_only_shorten_its_wait():
    """And never wait longer than the proxy grants, less what the answer needs."""
    settings = Settings(Limits(bands={10: Band(ttl=5.0)}), ttl=20.0, no_endpoint_ttl=60.0)
    rig = Rig(settings)
    rig.fill()
    assert [rig.wait(ttl=ttl).seconds for ttl in (None, 3.0, 300.0)] == [20.0, 3.0, 20.0]
    assert rig.wait("high").seconds == 5.0
    for slot in range(2):
        for _ in range(9):
            rig.pool.miss(address(slot))
    assert rig.wait().seconds == 59.5


async def test_a_full_queue_is_a_429():
    """Said at once."""
    rig = Rig(Settings(Limits(default=Band(max_requests=1))))
    rig.fill()
    rig.wait()
    with pytest.raises(Overloaded) as refusal:
        rig.enter()
    assert ("x-llm-d-request-dropped-reason", "rejected-saturated") in refusal.value.headers
    assert rig.seen.outcomes[-1] is WaitOutcome.FULL


async def test_sheddable_work_makes_room_in_the_queue():
    """Its client hears the reason."""
    rig = Rig(Settings(Limits(max_requests=1)))
    rig.fill()
    batch = rig.wait("batch")
    rig.wait("high")
    error = await refused(batch)
    assert ("x-llm-d-request-dropped-reason", "rejected-saturated") in error.headers
    assert rig.seen.outcomes[-1] is WaitOutcome.EVICTED


async def test_a_client_that_leaves_is_gone_at_once():
    """Cancelled in its wait; the next one in the queue does not notice."""
    rig = Rig()
    first, _ = rig.fill()
    leaving, staying = rig.wait(), rig.wait()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(leaving.turn())
        await asyncio.sleep(0)
        task.cancel()
    leaving.leave()
    assert rig.seen.outcomes[-1] is WaitOutcome.CLIENT_LEFT
    rig.release(first)
    assert staying.future.done()


async def test_who_leaves_in_the_moment_of_its_turn_takes_no_place_with_it():
    """Placed, and cancelled before it could know."""
    rig = Rig()
    first, _ = rig.fill()
    leaving, staying = rig.wait(), rig.wait()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(leaving.turn())
        await asyncio.sleep(0)
        rig.release(first)
        task.cancel()
    assert leaving.future.done()
    leaving.leave()
    assert staying.future.done()
    assert rig.in_flight == 2


async def test_leaving_late_changes_nothing():
    """After the turn was taken, the place is the request's."""
    rig = Rig()
    first, _ = rig.fill()
    ticket = rig.wait()
    rig.release(first)
    await ticket.turn()
    ticket.leave()
    assert rig.in_flight == 2


async def test_a_lost_end_does_not_close_the_gate_for_ever():
    """The lease runs out, and the next news open it."""
    rig = Rig()
    rig.fill()
    ticket = rig.wait()
    rig.clock.now += rig.pool.limits.lease + 1
    rig.pool.observe(address(0), replace(Metrics(), scraped_at=rig.clock()))
    assert ticket.future.done()


async def test_what_the_gate_does_with_a_request_is_timed_by_outcome():
    """Let in, told to wait, refused; and each turn of a gate with a queue."""
    rig = Rig(Settings(limits=Limits(default=Band(max_requests=1))))
    seen, turns = rig.seen.entered, rig.seen.turns
    rig.fill()
    assert turns == []
    ticket = rig.wait()
    with pytest.raises(Overloaded):
        rig.enter()
    ticket.leave()
    dispatched = [WaitOutcome.DISPATCHED] * 2
    assert seen == [*dispatched, WaitOutcome.WAITS, WaitOutcome.FULL]
    assert len(turns) >= 1
