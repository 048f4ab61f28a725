"""Replicas agree on which conversations pause, and where."""

from __future__ import annotations

from tests.epp.state.world import Peer, exchange
from tests.epp.world import digest, text

SYSTEM, QUESTION = text(2000, 1), text(2000, 2)


def at_home(peer: Peer) -> list[bool]:
    return [bool(pace.paused_tokens) for pace in peer.pool.fleet.paces]


def test_who_pauses_where_is_known_to_all(ours, theirs):
    """From the end of a turn to the next one, whoever picks that."""
    first, second = digest(SYSTEM), digest(SYSTEM, QUESTION)
    reservation = ours.pick(first)
    exchange(ours, theirs)
    ours.finish(reservation.id, status=200, seconds=1.0, response_bytes=400)
    ours.release(reservation)
    exchange(ours, theirs)
    assert sum(at_home(ours)) == 1
    assert at_home(theirs) == at_home(ours)
    theirs.pick(second)
    exchange(ours, theirs)

    assert not any(at_home(ours) + at_home(theirs))


def test_the_same_question_again_ends_no_pause(ours, theirs):
    """It is the same turn, and its prompt does not go on."""
    prompt = digest(SYSTEM)
    reservation = ours.pick(prompt)
    ours.finish(reservation.id, status=200, seconds=1.0, response_bytes=400)
    ours.release(reservation)
    exchange(ours, theirs)
    theirs.pick(prompt)
    exchange(ours, theirs)

    assert sum(at_home(ours)) == sum(at_home(theirs)) == 1


def test_what_is_told_again_ends_no_pause(ours, theirs):
    """The first turn was asked anew after the second; then Redis lost both, and they are told once more."""
    first, second = digest(SYSTEM), digest(SYSTEM, QUESTION)
    for prompt in (first, second, first):
        reservation = theirs.pick(prompt)
        theirs.finish(reservation.id, status=200, seconds=1.0, response_bytes=400)
        theirs.release(reservation)
        exchange(ours, theirs)
    before = [pace.paused_tokens for pace in ours.pool.fleet.paces]
    theirs.share.outbox.seed()
    exchange(ours, theirs)

    assert sum(before) > first.prompt_tokens + second.prompt_tokens
    assert [pace.paused_tokens for pace in ours.pool.fleet.paces] == before
