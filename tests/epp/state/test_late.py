"""What waited for Redis is as old as it is, not as old as when it was first tried."""

from __future__ import annotations

import pytest
from msgspec import structs

from services.epp.endpoints import Metrics
from services.epp.state.link import Command
from services.epp.state.wire import Batch, decode, encode
from tests.epp.state.world import link_of, peer
from tests.epp.world import Clock, address, digest


class Broken:
    """A Redis that fails `times` times and then takes batches."""

    def __init__(self, clock: Clock, times: int) -> None:
        self._clock = clock
        self._times = times
        self.taken: list[Batch] = []

    async def execute(self, *commands: Command) -> list[object]:
        if self._times:
            self._times -= 1
            self._clock.now += 4.0
            raise ConnectionError
        return [self._answer(command) for command in commands]

    def _answer(self, command: Command) -> object:
        if command[0] != "XADD":
            return []
        data = command[-1]
        assert isinstance(data, bytes)
        self.taken.append(decode(data))
        return b"5-0"

    async def aclose(self) -> None:
        """Nothing to close."""


async def test_a_batch_that_is_sent_again_says_how_late_it_is():
    """Its ages were counted when it was made."""
    clock = Clock()
    ours = peer("00000001", clock)
    client = Broken(clock, times=2)
    link = link_of(ours, client, clock)
    ours.pick(digest(b"hello"))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await link.exchange()
    await link.exchange()
    ours.pick(digest(b"again"))
    await link.exchange()
    assert [batch.late_ms for batch in client.taken] == [8000, 0]


def test_what_comes_late_is_not_taken_for_new():
    """A look from before the outage must not undo the one after it: a server that counts less would seem restarted."""
    clock = Clock()
    ours, theirs = peer("00000001", clock), peer("00000002", clock)
    ours.share.outbox.observed(address(0), Metrics(prompt_tokens_total=10.0, scraped_at=clock()))
    data = ours.say()
    assert data is not None
    clock.now += 2
    theirs.pool.observe(address(0), Metrics(prompt_tokens_total=90.0, scraped_at=clock()))
    theirs.pool.prefixes.record(0, digest(b"a prompt " * 200).blocks)
    known = len(theirs.pool.prefixes)
    clock.now += 1
    theirs.share.inbox.take(encode(structs.replace(decode(data), late_ms=2900)), 0.05)
    server = theirs.pool.get(address(0))
    assert server is not None
    assert server.metrics.prompt_tokens_total == 90.0
    assert len(theirs.pool.prefixes) == known > 0
    assert theirs.share.inbox.lives(ours.owner)


@pytest.mark.parametrize(("started", "believed"), [(0.0, False), (100.0, False), (200.0, True)])
def test_a_look_that_counts_less_is_of_a_new_process_or_of_the_past(started, believed):
    """What hung in a network on its way has an age that nobody could add up."""
    clock = Clock()
    ours, theirs = peer("00000001", clock), peer("00000002", clock)
    known = Metrics(prompt_tokens_total=90.0, started_at=100.0 if started else 0.0, scraped_at=clock())
    theirs.pool.observe(address(0), known)
    theirs.pool.prefixes.record(0, digest(b"a prompt " * 200).blocks)
    held = len(theirs.pool.prefixes)
    clock.now += 1
    late = Metrics(prompt_tokens_total=10.0, started_at=started, scraped_at=clock())
    ours.share.outbox.observed(address(0), late)
    data = ours.say()
    assert data is not None
    theirs.share.inbox.take(data, 0.0)
    server = theirs.pool.get(address(0))
    assert server is not None
    assert (server.metrics.prompt_tokens_total == 10.0) is believed
    assert (len(theirs.pool.prefixes) < held) is believed
