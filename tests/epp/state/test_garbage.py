"""Whatever is in the stream, it breaks nothing."""

from __future__ import annotations

import math
import random

import msgspec
import pytest

from services.epp.state import Band
from services.epp.state.wire import Corrupt, UnknownVersion, decode
from tests.epp.state.test_sharing import member, replicas
from tests.epp.state.world import Peer, exchange, loads
from tests.epp.world import Clock, address, digest, text

JUNK: tuple[object, ...] = (
    None,
    -1,
    0,
    1,
    7,
    2**63,
    2**64 - 1,
    math.nan,
    math.inf,
    -math.inf,
    1e300,
    -0.5,
    "x",
    b"",
    b"12345678",
    [],
    {},
)


def full_batch(ours: Peer, theirs: Peer, clock: Clock) -> list[object]:
    """Return a batch in which there is one of everything."""
    reservation = ours.pick(digest(text(1000, 1)))
    ours.director.served("llama", reservation.id, reservation.decision.servers[1].address)
    ours.pick(digest(text(1000, 2)))
    clock.now += 1
    ours.finish(reservation.id, status=200, seconds=1.0, sent_after=0.0, response_bytes=4000)
    other = theirs.pick(digest(text(1000, 3)))
    ours.finish(other.id, status=200, seconds=1.0)
    outbox = ours.share.outbox
    outbox.observed(address(0), member(ours, 0).metrics)
    outbox.missed(address(1))
    outbox.bound("sessions", "s", address(0))
    outbox.queued([Band(0, 1, 100)])
    outbox.served(0, "flow", 100)
    said = ours.say(whole=True)
    assert said is not None
    return msgspec.msgpack.decode(said, type=list[object])


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Return the paths of everything inside."""
    inside = list(value.items()) if isinstance(value, dict) else []
    if isinstance(value, list):
        inside = list(enumerate(value))
    return [path, *[found for key, one in inside for found in places(one, (*path, key))]]


def put(value: object, path: tuple[object, ...], junk: object) -> object:
    if not path:
        return junk
    if isinstance(value, dict):
        return value | {path[0]: put(value[path[0]], path[1:], junk)}
    assert isinstance(value, list)
    return [put(one, path[1:], junk) if number == path[0] else one for number, one in enumerate(value)]


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_with_anything_in_the_wrong_place_is_taken_or_left(seed):
    """Nothing breaks, what is learnt stays a number, and the next heartbeat puts the load right."""
    rng, clock = random.Random(seed), Clock()
    ours, theirs = replicas(clock, 2)
    batch = full_batch(ours, theirs, clock)
    everywhere = places(batch)
    for number in range(500):
        wrong = put(batch, rng.choice(everywhere), rng.choice(JUNK))
        if isinstance(wrong, list) and len(wrong) > 2 and wrong[2] == batch[2]:
            wrong = put(wrong, (2,), 10 + number)
        theirs.share.inbox.take(msgspec.msgpack.encode(wrong), 0.0)
    theirs.share.inbox.leave()
    exchange(ours, theirs, whole=True)

    assert loads(theirs) == loads(ours)
    assert theirs.share.inbox.heard.corrupt > 100
    for pace in theirs.pool.fleet.paces:
        assert all(
            math.isfinite(one) for one in (pace.first, pace.prefill, pace.step, pace.sequence, pace.failing)
        )
    theirs.pick(digest(text(1000, 4)))


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_are_no_batch(seed):
    """Nor is a batch that was cut or has flipped bits, unless it still reads as one."""
    rng, clock = random.Random(seed), Clock()
    ours, theirs = replicas(clock, 2)
    data = msgspec.msgpack.encode(full_batch(ours, theirs, clock))
    for _ in range(500):
        wrong = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.5 else data)
        for _ in range(rng.randrange(1, 4)):
            if wrong:
                wrong[rng.randrange(len(wrong))] = rng.randrange(256)
        try:
            decode(bytes(wrong))
        except (Corrupt, UnknownVersion):
            continue
