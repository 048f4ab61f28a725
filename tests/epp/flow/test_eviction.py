"""A request that has to wait takes the place of a sheddable one whose answer has not begun."""

from __future__ import annotations

import asyncio

import pytest

from services.epp.director import Ask, Reservation
from services.epp.endpoints import Metrics
from services.epp.flow.control import FlowControl, Ticket
from services.epp.flow.loans import Loan
from services.epp.flow.settings import Settings
from services.epp.records import Evicted, Release, Silent
from services.epp.scheduling.interfaces import Detector
from services.epp.scheduling.saturation import Concurrency, Utilization
from services.epp.service import EndpointPicker, PickExchange
from services.extproc.decisions import Forward, Wait
from services.extproc.errors import Overloaded
from services.extproc.events import End, Headers, Outcome, Request, ResponseHead
from services.openai.digest import Digest, encode
from tests.epp.world import Clock, address, director_of, pool_of

ATTACHED = {"gw.bbr": {"digest": encode(Digest("m", prompt_bytes=100))}}
HEAD = ResponseHead(200, Headers(), body_seen=False)


class Notes(Silent):
    def __init__(self) -> None:
        self.evicted_: list[Evicted] = []
        self.releases: list[Release] = []

    def evicted(self, evicted: Evicted) -> None:
        self.evicted_.append(evicted)

    def released(self, pool: str, by: Release) -> None:
        self.releases.append(by)


class Rig:
    """Two servers that take one request each."""

    def __init__(self, detector: Detector | None = None, *, evicts: bool = True) -> None:
        self.clock, self.notes = Clock(), Notes()
        self.pool = pool_of(2, self.clock)
        self.director = director_of(
            self.pool,
            clock=self.clock,
            objectives={"high": 10, "batch": -1, "worse": -2},
            observer=self.notes,
            detector=detector or Concurrency(max_concurrency=1),
            sheds=False,
        )
        self.flow = FlowControl(self.director, Settings(evicts=evicts), now=self.clock, observer=self.notes)
        self.service = EndpointPicker(self.director, self.flow)

    async def ask(self, objective: str = "") -> tuple[PickExchange, Forward | Wait]:
        exchange = self.service.open({})
        headers = Headers([(":method", "POST"), ("x-gateway-inference-objective", objective)])
        decision = await exchange.request(Request(headers, metadata=ATTACHED))
        assert isinstance(decision, Forward | Wait)
        return exchange, decision

    async def sent(self, objective: str = "") -> PickExchange:
        exchange, decision = await self.ask(objective)
        assert isinstance(decision, Forward)
        return exchange

    async def waits(self, objective: str = "") -> PickExchange:
        """Return an exchange that was told to wait; its place may have come since."""
        exchange, decision = await self.ask(objective)
        assert isinstance(decision, Wait)
        return exchange

    @property
    def in_flight(self) -> list[int]:
        return sorted(entry.priority for entry in self.pool.inflight)


async def told(exchange: PickExchange) -> Overloaded:
    assert exchange.revocable
    with pytest.raises(Overloaded) as refusal:
        await exchange.revoked()
    exchange.end(End(Outcome.REJECTED, "evicted"))
    return refusal.value


async def test_the_newest_of_the_lowest_priority_goes_and_its_place_is_taken_at_once():
    """Its client is told why and when to come again; its load is off, and off once."""
    rig = Rig()
    old, new = await rig.sent("batch"), await rig.sent("worse")
    exchange = await rig.waits("high")

    assert isinstance(await exchange.waited(), Forward)
    assert rig.in_flight == [-1, 10]
    error = await told(new)
    assert error.status == 429
    headers = dict(error.headers)
    assert headers["x-llm-d-request-dropped-reason"] == "evicted-priority"
    assert int(headers["retry-after"]) >= 1
    assert [one.priority for one in rig.notes.evicted_] == [-2]
    assert rig.notes.releases == [Release.EVICTED]
    assert rig.in_flight == [-1, 10]
    old.end(End(Outcome.FORWARDED))


async def test_each_that_waits_takes_one_place_and_not_more():
    """As many as are needed; without any left it just waits."""
    rig = Rig()
    lent = [await rig.sent("batch"), await rig.sent("batch")]
    waiting = [await rig.waits("high") for _ in range(3)]

    assert rig.in_flight == [10, 10]
    assert len(rig.notes.evicted_) == 2
    for exchange in waiting[:2]:
        assert isinstance(await exchange.waited(), Forward)
    for exchange in lent:
        await told(exchange)
    async with asyncio.TaskGroup() as group:
        third = group.create_task(waiting[2].waited())
        await asyncio.sleep(0)
        assert not third.done()
        rig.director.release("llama", next(iter(rig.pool.inflight)).id, Release.ACCESS_LOG)
    assert isinstance(third.result(), Forward)


async def test_where_servers_must_report_first_one_request_still_takes_one_place():
    """The place is not free by the detector's word until the next report; nothing more is taken meanwhile."""
    rig = Rig(Utilization(queue_depth_threshold=5))
    for _ in range(3):
        await rig.sent("batch")
    for slot in range(2):
        rig.pool.observe(address(slot), Metrics(waiting=9, scraped_at=rig.clock()))
    exchange = await rig.waits("high")

    assert len(rig.notes.evicted_) == 1
    rig.pool.observe(address(0), Metrics(waiting=9, scraped_at=rig.clock()))
    assert len(rig.notes.evicted_) == 1
    rig.pool.observe(address(0), Metrics(scraped_at=rig.clock()))
    rig.pool.observe(address(1), Metrics(scraped_at=rig.clock()))
    assert isinstance(await exchange.waited(), Forward)


@pytest.mark.parametrize(
    ("runs", "comes"),
    [("", "high"), ("batch", "worse"), ("batch", "batch")],
    ids=["not sheddable", "lower", "equal"],
)
async def test_only_sheddable_requests_go_and_only_for_higher_ones(runs, comes):
    """All others keep their place."""
    rig = Rig()
    for _ in range(2):
        assert (await rig.sent(runs)).revocable is (runs == "batch")
    await rig.waits(comes)

    assert rig.notes.evicted_ == []
    assert len(rig.in_flight) == 2


async def test_an_answer_that_has_begun_is_not_taken_back():
    """Nor a request that has ended, by its stream or by the access log."""
    rig = Rig()
    begun, gone = await rig.sent("batch"), await rig.sent("batch")
    await begun.response_head(HEAD)
    rig.director.release("llama", list(rig.pool.inflight)[1].id, Release.ACCESS_LOG)
    await rig.sent()
    await rig.waits("high")

    assert rig.notes.evicted_ == []
    gone.end(End(Outcome.FORWARDED))


async def test_an_answer_that_comes_in_the_very_moment_is_refused():
    """The load is off already; its client hears the same as any other."""
    rig = Rig()
    lent = [await rig.sent("batch"), await rig.sent("batch")]
    await rig.waits("high")

    with pytest.raises(Overloaded) as refusal:
        await lent[1].response_head(HEAD)
    assert refusal.value.reason == "evicted"
    lent[1].end(End(Outcome.REJECTED))
    assert rig.notes.releases == [Release.EVICTED]


async def test_a_client_that_leaves_as_it_is_taken_back_is_released_once():
    """Whoever was first."""
    rig = Rig()
    lent = [await rig.sent("batch"), await rig.sent("batch")]
    await rig.waits("high")
    lent[1].end(End(Outcome.ABANDONED))
    lent[0].end(End(Outcome.ABANDONED))

    assert rig.notes.releases == [Release.EVICTED, Release.RESPONSE]
    assert rig.in_flight == [10]
    await rig.waits("high") if len(rig.in_flight) == 2 else await rig.sent("high")
    assert len(rig.notes.evicted_) == 1, "who left cannot be taken back"


async def test_streams_of_what_cannot_be_taken_back_end_with_the_pick():
    """Nothing is lost with a picker that stops; without eviction nothing changes."""
    rig = Rig()
    decisions = [(await rig.ask(objective))[1] for objective in ("high", "batch")]
    assert [one.last for one in decisions if isinstance(one, Forward)] == [True, False]
    plain = Rig(evicts=False)
    exchange, decision = await plain.ask("batch")
    assert isinstance(decision, Forward)
    assert not decision.last
    assert not exchange.revocable


def test_nothing_is_lent_before_the_gate_knows_the_pool():
    """And nothing at all with eviction off."""
    for rig in (Rig(), Rig(evicts=False)):
        reservation = rig.director.pick(Ask(Digest("m"), objective="batch"))
        loan: Loan | None = rig.flow.lend(reservation, Ask(Digest("m"), objective="batch"))
        assert loan is None
        assert isinstance(reservation, Reservation)
        assert not isinstance(reservation, Ticket)
