"""When Redis is asked again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from services.epp.state.condition import Condition
from services.epp.state.lag import Lag
from services.epp.state.link import Command, Link, Pacing
from services.epp.state.wire import FIELD
from tests.epp.state.world import Peer, peer
from tests.epp.world import Clock, digest


class Stream:
    """A Redis whose stream holds what was added, and what `news` adds just before each read."""

    def __init__(self, news: Callable[[], bytes | None]) -> None:
        self._news = news
        self._entries: list[list[object]] = []
        self._ids = (b"5-%d" % number for number in itertools.count(1))

    async def execute(self, *commands: Command) -> list[object]:
        return [self._answer(*command) for command in commands]

    async def aclose(self) -> None:
        """Nothing to close."""

    def _add(self, data: object) -> bytes:
        id_ = next(self._ids)
        self._entries.append([id_, [FIELD, data]])
        return id_

    def _answer(self, name: object, *arguments: object) -> object:
        if name == "XADD":
            return self._add(arguments[-1])
        if name != "XREAD":
            return []
        if (data := self._news()) is not None:
            self._add(data)
        found, self._entries = self._entries, []
        return [[b"stream", found]] if found else None


def link_of(one: Peer, client: Stream, clock: Clock) -> Link:
    def ignored(_: object) -> None:
        """Nobody listens."""

    return Link(
        client,
        one.share,
        pacing=Pacing(),
        clock=clock,
        rng=random.Random(1),
        condition=Condition(clock=clock, report=ignored),
        lag=Lag(published=ignored, visible=ignored, applied=ignored),
        warmed=lambda: None,
    )


async def test_others_news_wait_for_one_turn_at_most():
    """However many reads came early, by what we wrote ourselves or by news: were they added up, two turns would pass."""
    clock = Clock()
    ours, theirs = peer("00000001", clock), peer("00000002", clock)

    def news() -> bytes | None:
        theirs.pick(digest(b"theirs"))
        return theirs.say()

    link = link_of(ours, Stream(news), clock)
    for _ in range(5):
        ours.pick(digest(b"ours"))
        await link.exchange()
    assert clock() < link._reads.due <= clock() + Pacing().batch


async def test_a_read_that_waits_is_not_asked_for_twice():
    """With nothing to tell there is no other read, but after a start and after a failure."""
    clock = Clock()
    ours = peer("00000001", clock)
    link = link_of(ours, Stream(lambda: None), clock)
    ours.pick(digest(b"ours"))
    assert await link.exchange() is False
    reads = link._reads.due
    assert await link.exchange() is False
    assert link._reads.due == reads
