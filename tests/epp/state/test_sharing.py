"""What replicas share besides load and prefixes: looks at servers, ends, what was learnt, sessions, and queues."""

from __future__ import annotations

from collections import Counter

import pytest

from services.epp.director import Ask, Reservation
from services.epp.endpoints import Metrics, Server
from services.epp.flow.control import COURTESY, FlowControl, Ticket
from services.epp.flow.policies import WeightedTokens
from services.epp.flow.queues import Band, Limits
from services.epp.flow.settings import Settings
from services.epp.records import Silent
from services.epp.scheduling.saturation import Concurrency
from services.epp.scheduling.scorers.session_affinity import SessionId
from services.extproc.errors import Overloaded
from services.openai.digest import Digest
from tests.epp.state.world import LEASE, Peer, exchange, peer
from tests.epp.world import Clock, address, digest, text

INTERVAL = 0.2


@pytest.fixture
def clock() -> Clock:
    return Clock()


def replicas(clock: Clock, count: int, **more) -> list[Peer]:
    """Make replicas that know of each other."""
    peers = [peer(f"{number:08x}", clock, **more) for number in range(1, count + 1)]
    exchange(*peers, whole=True)
    return peers


def askers(peers: list[Peer], server: str) -> list[str]:
    return [one.owner for one in peers if one.share.turn(server, INTERVAL)]


def member(peer: Peer, number: int) -> Server:
    server = peer.pool.get(address(number))
    assert server is not None
    return server


def test_each_server_is_asked_by_one_replica(clock):
    """And the work is shared about evenly."""
    peers = replicas(clock, 3, servers=60)
    turns = [askers(peers, address(number)) for number in range(60)]

    assert {len(owners) for owners in turns} == {1}
    assert min(Counter(owner for owners in turns for owner in owners).values()) >= 10


def test_what_one_was_told_by_a_server_all_know(clock):
    """With its age; a failure too."""
    ours, theirs = replicas(clock, 2)
    clock.now += 1
    metrics = Metrics(
        waiting=3, running=7, kv_usage=0.5, active_adapters=frozenset({"a"}), scraped_at=clock()
    )
    clock.now += 1
    ours.pool.observe(address(0), metrics)
    ours.share.outbox.observed(address(0), metrics)
    clock.now += 0.25
    exchange(ours, theirs)

    assert member(theirs, 0).metrics == metrics
    for _ in range(3):
        ours.share.outbox.missed(address(0))
        exchange(ours, theirs)
    assert not member(theirs, 0).ready


def test_old_looks_are_not_believed(clock):
    """What was reported before the lease, or before our own look, says nothing."""
    ours, theirs = replicas(clock, 2)
    old = Metrics(running=9, scraped_at=clock())
    clock.now += 1
    theirs.pool.observe(address(0), Metrics(running=1, scraped_at=clock()))
    ours.share.outbox.observed(address(0), old)
    exchange(ours, theirs)
    ours.share.outbox.observed(address(1), Metrics(running=9, scraped_at=clock()))
    late = ours.say()
    assert late is not None
    theirs.share.inbox.take(late, LEASE + 1)

    assert [member(theirs, number).metrics.running for number in (0, 1)] == [1, 0]


def test_a_silent_asker_is_stood_in_for_by_one(clock):
    """The next one takes over; the one after hears of it and does not; who comes back has its share again."""
    peers = replicas(clock, 3)
    server = address(0)
    first = next(one for one in peers if askers(peers, server) == [one.owner])
    others = [one for one in peers if one is not first]
    clock.now += 3.5 * INTERVAL
    [second] = [one for one in others if one.share.turn(server, INTERVAL)]
    second.share.outbox.observed(server, Metrics(scraped_at=clock()))
    exchange(*others)
    clock.now += INTERVAL
    second.share.outbox.observed(server, Metrics(scraped_at=clock()))
    exchange(*others)

    assert second.share.takeovers == 1
    assert [one.share.turn(server, INTERVAL) for one in others if one is not second] == [False]
    first.share.outbox.observed(server, Metrics(scraped_at=clock()))
    exchange(*peers)
    assert askers(peers, server) == [first.owner]


def test_what_a_killed_replica_asked_is_asked_at_once_by_who_follows_it(clock):
    """Its last look is what counts: servers that are asked of late must not pass for the only fresh ones."""
    killed, follower = (peer(owner, clock, servers=20) for owner in ("00000001", "00000002"))
    clock.now += 1
    for number in range(20):
        killed.share.outbox.observed(address(number), Metrics(scraped_at=clock()))
    last = killed.say(whole=True)
    assert last is not None
    clock.now += 1.5
    follower.share.inbox.take(last, 1.5)

    assert all(follower.share.turn(address(number), INTERVAL) for number in range(20))


def test_who_left_has_no_share(clock):
    """After its lease the servers are asked by those that live."""
    peers = replicas(clock, 2, servers=20)
    clock.now += LEASE + 0.1
    exchange(peers[0], whole=True)
    peers[0].share.inbox.expire()

    assert all(peers[0].share.turn(address(number), INTERVAL) for number in range(20))


def test_what_ended_at_one_is_forgotten_last_by_both(clock):
    """A server gives blocks away when a request ends, and the replicas agree on whose are next."""
    ours, theirs = (peer(owner, clock, servers=1) for owner in ("aaaaaaaa", "bbbbbbbb"))
    first, second = digest(text(1024, 1)), digest(text(1024, 2))
    picked = ours.pick(first)
    exchange(ours, theirs)
    theirs.pick(second)
    exchange(ours, theirs)
    ours.finish(picked.id, status=200, seconds=1.0)
    exchange(ours, theirs)
    for one in (ours, theirs):
        one.pool.observe(address(0), Metrics(block_size=16, num_blocks=16))

    for one in (ours, theirs):
        assert one.pool.prefixes.match(first.blocks) == {0: len(first.blocks)}
        assert one.pool.prefixes.match(second.blocks) == {}


def test_what_one_learns_of_a_server_all_learn(clock):
    """A slow one is slow for everybody."""
    ours, theirs = replicas(clock, 2)
    for number in range(60):
        reservation = ours.pick(digest(text(400, number)))
        clock.now += 1
        server = reservation.decision.servers[0]
        slow = 4.0 if server.address == address(0) else 0.4
        ours.finish(reservation.id, status=200, seconds=slow, sent_after=0.0, response_bytes=4000)
        exchange(ours, theirs)
    mine, other = ours.pool.fleet.paces, theirs.pool.fleet.paces

    assert mine[0].step > 1.2 * mine[1].step
    assert [pace.step for pace in other] == pytest.approx([pace.step for pace in mine], rel=0.01)
    assert theirs.pool.fleet.typical == ours.pool.fleet.typical


def test_lessons_are_a_sample(clock):
    """A busy replica does not make the others learn every request."""
    ours, _ = replicas(clock, 2)
    for number in range(300):
        reservation = ours.pick(digest(text(400, number)))
        clock.now += 0.002
        ours.finish(reservation.id, status=200, seconds=0.002, response_bytes=400)
    batches = [batch for _ in range(5) if (batch := ours.share.outbox.take(whole=False)) is not None]

    assert 12 <= sum(len(batch.lessons) for batch in batches) <= 16
    assert sum(len(batch.passed) for batch in batches) == 300


def test_a_session_belongs_to_its_server_everywhere(clock):
    """The last binding counts, whichever replica saw it."""
    ours, theirs = replicas(clock, 2)
    plugins: dict[str, SessionId] = {}
    for one in (ours, theirs):
        plugin = plugins[one.owner] = SessionId(("x-session-id",), ttl=300.0)
        one.share.inbox.sessions = {"by-session": plugin}
    bound = plugins[theirs.owner]._bound
    ours.share.outbox.bound("by-session", "s1", address(1))
    exchange(ours, theirs)
    assert bound["llama", "s1"] == (address(1), clock())

    clock.now += 1
    ours.share.outbox.bound("by-session", "s1", address(0))
    late = ours.say()
    clock.now += 1
    plugins[theirs.owner].remember("llama", "s1", address(1), clock())
    assert late is not None
    theirs.share.inbox.take(late, 1.0)
    assert bound["llama", "s1"] == (address(1), clock())


class Gate:
    """One replica's flow control over servers that take one request each."""

    def __init__(self, peer: Peer, clock: Clock, settings: Settings) -> None:
        self.peer = peer
        director = peer.director
        director.reconfigure(
            director._scheduler,
            detector=Concurrency(max_concurrency=1),
            objectives={"high": 10},
            default_pool="",
            zone="",
        )
        self.flow = FlowControl(director, settings, now=clock, observer=Silent())

    def enter(self, objective: str = "", **more) -> Reservation | Ticket:
        ask = Ask(Digest("m", prompt_bytes=100, max_tokens=100), objective=objective, **more)
        return self.flow.enter(ask)

    def placed(self) -> Reservation:
        """Enter where there is room."""
        reservation = self.enter()
        assert isinstance(reservation, Reservation)
        return reservation

    def queued(self, objective: str = "", **more) -> Ticket:
        """Enter where there is none."""
        ticket = self.enter(objective, **more)
        assert isinstance(ticket, Ticket)
        return ticket


def gates(clock: Clock, settings: Settings | None = None) -> tuple[Gate, Gate]:
    ours, theirs = replicas(clock, 2)
    return Gate(ours, clock, settings or Settings()), Gate(theirs, clock, settings or Settings())


async def test_a_pool_that_another_filled_is_full(clock):
    """And the place that becomes free there is taken here."""
    ours, theirs = gates(clock)
    filled = [ours.placed(), ours.placed()]
    exchange(ours.peer, theirs.peer)
    ticket = theirs.queued()

    ours.peer.release(filled[0])
    exchange(ours.peer, theirs.peer)
    assert (await ticket.turn()).pool is theirs.peer.pool


async def test_limits_are_of_all_queues_together(clock):
    """Of a band, and of all bands."""
    ours, theirs = gates(clock, Settings(Limits(max_requests=3, default=Band(max_requests=2))))
    for _ in range(2):
        ours.enter()
    exchange(ours.peer, theirs.peer)
    tickets = [ours.queued(), theirs.queued()]
    exchange(ours.peer, theirs.peer)
    with pytest.raises(Overloaded, match="queue of priority 0"):
        ours.enter()
    tickets.append(theirs.queued("high"))
    exchange(ours.peer, theirs.peer)
    with pytest.raises(Overloaded, match="the queue of pool"):
        ours.enter("high")
    for ticket in tickets:
        ticket.leave()
    exchange(ours.peer, theirs.peer)

    assert ours.queued("high").seconds > 0, "those who left count no more"


async def test_a_place_is_left_to_a_higher_priority_elsewhere_for_a_moment(clock):
    """And taken when nobody takes it."""
    ours, theirs = gates(clock)
    filled = [ours.placed(), ours.placed()]
    exchange(ours.peer, theirs.peer)
    low, high = ours.queued(), theirs.queued("high")
    exchange(ours.peer, theirs.peer)
    ours.peer.release(filled[0])
    assert not low.future.done(), "somebody more important waits elsewhere"
    exchange(ours.peer, theirs.peer)
    assert high.future.done()
    exchange(ours.peer, theirs.peer)

    high = theirs.queued("high")
    exchange(ours.peer, theirs.peer)
    ours.peer.release(filled[1])
    assert not low.future.done()
    clock.now += 1.1 * COURTESY
    ours.peer.pool.news()
    assert low.future.done(), "the other did not take it"
    high.leave()


async def test_a_flow_that_was_served_elsewhere_has_had_its_turn(clock):
    """Shares are of the whole pool."""
    ours, theirs = gates(clock, Settings(Limits(default=Band(fairness=WeightedTokens()))))
    filled = [theirs.placed(), theirs.placed()]
    exchange(ours.peer, theirs.peer)
    here = {flow: ours.queued(fairness=flow) for flow in ("greedy", "modest")}
    for _ in range(2):
        theirs.enter(fairness="greedy")
    theirs.peer.release(filled[0])
    exchange(ours.peer, theirs.peer)
    theirs.peer.release(filled[1])
    exchange(ours.peer, theirs.peer)
    assert not here["greedy"].future.done()

    first = ours.flow._gates["llama"]._queues.first()
    assert first is not None
    assert first.flow == "modest"
