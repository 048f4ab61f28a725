"""Two replicas that tell each other what they do decide like one."""

from __future__ import annotations

import msgspec
import pytest

from services.epp.director import Ask
from services.epp.endpoints import Endpoint
from services.epp.inflight import Load
from services.epp.state.inbox import RETURN
from services.epp.state.wire import Batch, encode
from tests.epp.state.world import LEASE, Peer, exchange, loads, peer
from tests.epp.world import Clock, address, digest, text

SYSTEM, QUESTION = text(2000, 1), text(2000, 2)


def test_a_prefix_that_one_sent_is_known_to_the_other(ours, theirs):
    """Block by block, whatever number each gives to a server."""
    theirs.pool.set_members([Endpoint(address(1))])
    theirs.pool.set_members([Endpoint(address(1)), Endpoint(address(0))])
    prompt = digest(SYSTEM)
    server = ours.pick(prompt).decision.servers[0]
    exchange(ours, theirs)
    here = ours.pool.prefixes.match(prompt.blocks)
    there = theirs.pool.prefixes.match(prompt.blocks)

    assert here == {server.slot: len(prompt.blocks)}
    assert there == {theirs.pool.get(server.address).slot: len(prompt.blocks)}


def test_only_new_blocks_travel(ours, theirs):
    """The second turn of a conversation tells what its server has not got, and the other knows all of it."""
    first, second = digest(SYSTEM), digest(SYSTEM, QUESTION)
    ours.release(ours.pick(first))
    whole = ours.say()
    ours.pick(second)
    more = ours.say()
    theirs.share.inbox.take(whole, 0.0)
    theirs.share.inbox.take(more, 0.0)
    batch = msgspec.msgpack.decode(more, type=Batch)

    assert len(batch.picks[0].blocks) == 8 * (len(second.blocks) - len(first.blocks))
    assert batch.picks[0].parent == first.blocks[-1]
    assert set(theirs.pool.prefixes.match(second.blocks).values()) == {len(second.blocks)}


def test_what_one_has_in_flight_counts_for_the_other(ours, theirs):
    """Until its end, and exactly."""
    mine, other = ours.pick(digest(SYSTEM, max_tokens=10)), theirs.pick(digest(QUESTION, max_tokens=20))
    exchange(ours, theirs)
    assert loads(ours) == loads(theirs)
    assert sum(requests for requests, *_ in loads(ours)) == 2

    ours.release(mine)
    exchange(ours, theirs)
    assert sum(requests for requests, *_ in loads(theirs)) == 1

    theirs.release(other)
    exchange(ours, theirs)
    assert loads(ours) == loads(theirs) == [(0, 0, 0)] * 2


def test_two_replicas_do_not_both_fill_the_same_server(ours, theirs):
    """The second pick sees the first one's load."""
    first = ours.pick(digest(SYSTEM)).decision.servers[0].address
    exchange(ours, theirs)
    second = theirs.pick(digest(QUESTION)).decision.servers[0].address

    assert first != second


def test_who_is_not_heard_of_for_a_lease_has_no_load(ours, theirs, clock):
    """A crash forgets itself; what it taught of prefixes stays."""
    prompt = digest(SYSTEM)
    ours.pick(prompt)
    exchange(ours, theirs)
    clock.now += LEASE - 0.1
    assert theirs.share.inbox.expire() == []
    clock.now += 0.2

    assert theirs.share.inbox.expire() == ["aaaaaaaa"]
    assert theirs.pool.inflight.loads == [Load()] * 2
    assert theirs.pool.prefixes.match(prompt.blocks)
    assert not theirs.pool.inflight.others.requests


def test_all_loads_come_with_a_heartbeat(ours, theirs):
    """What was lost on the way is put right, down as well as up."""
    gone, there = ours.pick(digest(SYSTEM)), ours.pick(digest(QUESTION))
    exchange(ours, theirs)
    ours.release(gone)
    ours.say()  # lost
    exchange(ours, theirs, whole=True)

    assert loads(theirs) == loads(ours)
    ours.release(there)
    ours.say()
    exchange(ours, theirs, whole=True)
    assert loads(theirs) == [(0, 0, 0)] * 2


def test_the_end_reaches_the_replica_that_picked(ours, theirs):
    """The proxy's log comes to one replica only."""
    reservation = ours.pick(digest(SYSTEM))
    exchange(ours, theirs, whole=True)
    known = theirs.finish(reservation.id, status=200, seconds=0.5, response_bytes=100)
    exchange(ours, theirs)

    assert not known
    assert [(end.decision, end.status, end.seconds) for end in ours.ended] == [(reservation.id, 200, 0.5)]
    assert loads(ours) == [(0, 0, 0)] * 2


def test_an_end_of_nobody_is_unknown(ours, theirs, clock):
    """One that left is not told any more."""
    reservation = ours.pick(digest(SYSTEM))
    exchange(ours, theirs, whole=True)
    clock.now += LEASE + 1

    assert not theirs.finish(reservation.id)
    assert not ours.ended


def test_the_next_turn_is_known_wherever_the_last_was_picked(ours, theirs, clock):
    """Its answer must have ended, though nobody said so yet; that its replica says it too takes nothing off twice."""
    reservation = ours.pick(digest(SYSTEM))
    server = reservation.decision.servers[0]
    exchange(ours, theirs)
    clock.now += 5
    turn = theirs.pick(digest(SYSTEM, QUESTION))

    assert turn.decision.servers[0].address == server.address
    assert theirs.pool.inflight.loads[server.slot].requests == 1
    ours.release(reservation)
    exchange(ours, theirs)
    assert theirs.pool.inflight.loads[server.slot].requests == 1
    assert loads(theirs) == loads(ours)


def test_a_request_that_went_elsewhere_counts_there(ours, theirs):
    """Its prefix too."""
    prompt = digest(SYSTEM)
    reservation = ours.pick(prompt)
    exchange(ours, theirs)
    first, second = (server.address for server in reservation.decision.servers[:2])
    ours.director.served("llama", reservation.id, second)
    exchange(ours, theirs)
    slot = theirs.pool.get(second).slot

    assert theirs.pool.prefixes.match(prompt.blocks) == {slot: len(prompt.blocks)}
    assert theirs.pool.inflight.loads[slot].requests == 1
    assert theirs.pool.inflight.loads[theirs.pool.get(first).slot].requests == 0
    assert loads(theirs) == loads(ours)


def test_what_is_told_twice_counts_once(ours, theirs):
    """Nobody knows of a write that timed out whether it got through."""
    ours.pick(digest(SYSTEM))
    data = ours.say()
    theirs.share.inbox.take(data, 0.0)
    busy = [pace.sent for pace in theirs.pool.fleet.paces]
    theirs.share.inbox.take(data, 0.0)

    assert [pace.sent for pace in theirs.pool.fleet.paces] == busy
    assert loads(theirs) == loads(ours)


def test_old_news_teach_prefixes_and_count_nothing(ours, theirs):
    """As after a start, when all of the stream is read."""
    prompt = digest(SYSTEM)
    ours.pick(prompt)
    theirs.share.inbox.take(ours.say(), 100.0)
    theirs.share.inbox.expire()

    assert theirs.pool.prefixes.match(prompt.blocks)
    assert loads(theirs) == [(0, 0, 0)] * 2
    assert theirs.share.inbox.living == []


def test_others_versions_and_garbage_are_left_out(ours, theirs):
    """And counted."""
    for data in (b"", b"\x93\x01", b"nonsense", encode(Batch(2, "cccccccc", 1, whole=False))):
        theirs.share.inbox.take(data, 0.0)
    later = msgspec.msgpack.encode([2, {"a": "map"}, 1])
    theirs.share.inbox.take(later, 0.0)
    ours.pick(digest(SYSTEM))
    exchange(ours, theirs)

    assert theirs.share.inbox.heard.corrupt == 3
    assert theirs.share.inbox.heard.unknown == 2
    assert loads(theirs) == loads(ours)


def test_a_longer_array_of_the_same_version_is_read(ours, theirs):
    """A newer replica may have more to say."""
    ours.pick(digest(SYSTEM))
    longer = msgspec.msgpack.encode([*msgspec.msgpack.decode(ours.say()), "more"])
    theirs.share.inbox.take(longer, 0.0)

    assert theirs.share.inbox.heard.corrupt == 0
    assert loads(theirs) == loads(ours)


def test_the_oldest_waits_are_dropped_first(clock, theirs):
    """While Redis does not answer, memory is bounded; single requests are then known no more, totals are."""
    ours = peer("aaaaaaaa", clock, limit=2)
    prompts = [digest(text(2000, seed)) for seed in range(10, 14)]
    exchange(ours, theirs, whole=True)
    for prompt in prompts:
        ours.pick(prompt)
    exchange(ours, theirs)

    assert ours.share.outbox.dropped == 2
    assert [bool(theirs.pool.prefixes.match(prompt.blocks)) for prompt in prompts] == [
        False,
        False,
        True,
        True,
    ]
    assert loads(theirs) == loads(ours)


def test_the_clocks_of_replicas_need_not_agree(ours):
    """Five minutes apart, as if they were not."""
    early, late = peer("bbbbbbbb", Clock(700.0)), peer("cccccccc", Clock(1300.0))
    prompt = digest(SYSTEM)
    ours.pick(prompt)
    exchange(ours, early, late, whole=True)

    assert loads(early) == loads(late) == loads(ours)
    assert early.pool.prefixes.match(prompt.blocks) == late.pool.prefixes.match(prompt.blocks)
    backlog = ours.pool.fleet.paces[0].busy_until - 1000.0, ours.pool.fleet.paces[1].busy_until - 1000.0
    assert [pace.busy_until - 700.0 for pace in early.pool.fleet.paces if pace.busy_until] == pytest.approx(
        [seconds for seconds in backlog if seconds > 0]
    )


def test_a_server_that_left_takes_all_that_counted_there(ours, theirs):
    """Its number is used again, and counts from nothing."""
    reservation = ours.pick(digest(SYSTEM))
    left = reservation.decision.servers[0].address
    exchange(ours, theirs)
    for one in (ours, theirs):
        one.pool.set_members(
            [server.endpoint for server in one.pool.snapshot.servers if server.address != left]
        )
        one.pool.set_members(
            [*[server.endpoint for server in one.pool.snapshot.servers], Endpoint("10.9.9.9:8000")]
        )
    exchange(ours, theirs, whole=True)

    assert loads(ours) == loads(theirs) == [(0, 0, 0)] * 2


def test_what_is_told_again_is_no_work(ours, theirs):
    """Redis lost it, and the others did not: only prefixes are news, to those who were not there."""
    prompt = digest(SYSTEM)
    ours.pick(prompt)
    exchange(ours, theirs)
    work = [pace.sent for pace in theirs.pool.fleet.paces]
    newcomer = peer("cccccccc", Clock())
    ours.share.outbox.seed()
    exchange(ours, theirs, newcomer)

    assert [pace.sent for pace in theirs.pool.fleet.paces] == work
    assert loads(theirs) == loads(ours)
    assert newcomer.pool.prefixes.match(prompt.blocks)


def test_a_prompt_that_is_told_of_late_is_done(ours, theirs, clock):
    """While Redis was gone its server computed it; its load counts all the same."""
    ours.pick(digest(SYSTEM))
    clock.now += 60
    exchange(ours, theirs)

    assert [pace.busy_until for pace in theirs.pool.fleet.paces] == [0.0, 0.0]
    assert loads(theirs) == loads(ours)


def test_a_long_wait_is_told_in_several_batches(clock, theirs):
    """Their readers have requests to decide meanwhile."""
    ours = peer("aaaaaaaa", clock, servers=2)
    prompts = [digest(text(200, seed)) for seed in range(250)]
    for prompt in prompts:
        ours.pick(prompt)
    batches = [batch for _ in range(4) if (batch := ours.share.outbox.take(whole=False)) is not None]
    for batch in batches:
        theirs.share.inbox.take(encode(batch), 0.0)

    assert [len(batch.picks) for batch in batches] == [100, 100, 50]
    assert loads(theirs) == loads(ours)


PROXY = "ipv4:10.0.0.1 gateway-1"


def lost_at(one: Peer) -> list[str]:
    """Let `one` end what it picked for a proxy that others miss, and note which those were."""
    seen: list[str] = []

    def lose(proxy: str) -> None:
        seen.append(proxy)
        one.director.lost(proxy, one.pool.name)

    one.share.inbox.on_lost = lose
    one.share.inbox.object = one.share.outbox.held
    return seen


def test_a_proxy_that_left_one_replica_and_is_seen_by_none_is_gone_for_all(ours, theirs, clock):
    """After the time in which one that lives would have come back; what flows through others stays."""
    seen = lost_at(theirs)
    theirs.director.pick(Ask(digest(SYSTEM), proxy=PROXY))
    theirs.director.pick(Ask(digest(QUESTION), proxy="ipv4:10.0.0.2 gateway-1"))
    ours.share.outbox.lost(PROXY)
    exchange(ours, theirs)
    clock.now += RETURN - 0.1
    theirs.share.inbox.expire()
    assert not seen

    clock.now += 0.2
    theirs.share.inbox.expire()
    theirs.share.inbox.expire()
    assert seen == [PROXY]
    assert [entry.proxy for entry in theirs.pool.inflight] == ["ipv4:10.0.0.2 gateway-1"]


@pytest.mark.parametrize("early", [True, False], ids=["it was there before", "it comes back"])
def test_a_replica_that_a_proxy_still_speaks_to_objects(ours, theirs, clock, early):
    """The proxy lives; only its connection broke, or the replica ends."""
    third = peer("cccccccc", clock)
    seen, held = lost_at(theirs), lost_at(third)
    there = {PROXY} if early else set()
    third.share.inbox.holds = there.__contains__
    ours.share.outbox.lost(PROXY)
    exchange(ours, theirs, third)
    if not early:
        there.add(PROXY)
        third.share.outbox.held(PROXY)
    exchange(ours, theirs, third)
    clock.now += RETURN + 0.1
    theirs.share.inbox.expire()
    third.share.inbox.expire()

    assert seen == held == []


def test_a_proxy_that_speaks_to_this_replica_by_then_is_not_gone(ours, theirs, clock):
    """Whoever sees it need not be told."""
    seen = lost_at(theirs)
    ours.share.outbox.lost(PROXY)
    exchange(ours, theirs)
    theirs.share.inbox.holds = lambda proxy: proxy == PROXY
    clock.now += RETURN + 0.1
    theirs.share.inbox.expire()

    assert seen == []


def test_what_was_said_of_proxies_long_ago_is_history(ours, theirs, clock):
    """A replica that starts reads of proxies that left in another life."""
    seen = lost_at(theirs)
    ours.share.outbox.lost(PROXY)
    exchange(ours, theirs, age=60.0)
    clock.now += 60
    theirs.share.inbox.expire()

    assert seen == []


def test_a_version_that_knows_nothing_of_proxies_reads_the_rest(ours, theirs):
    """And its batches, which end earlier, are read here: both run side by side during a rollout."""
    ours.pick(digest(SYSTEM))
    ours.share.outbox.lost(PROXY)
    grown = ours.say()
    shorter = msgspec.msgpack.encode(msgspec.msgpack.decode(grown)[:-2])
    longer = msgspec.msgpack.encode([*msgspec.msgpack.decode(grown), ["of a later version"]])
    theirs.share.inbox.take(shorter, 0.0)
    later = peer("cccccccc", Clock())
    later.share.inbox.take(longer, 0.0)

    assert loads(theirs) == loads(later) == loads(ours)
