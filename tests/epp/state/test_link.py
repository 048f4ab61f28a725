"""When Redis is asked again."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from services.epp.state.link import Command, Pacing
from services.epp.state.wire import FIELD
from tests.epp.state.world import link_of, peer
from tests.epp.world import Clock, digest


class Stream:
    """A Redis whose stream holds what was added, and what `news` adds just before each read."""

    def __init__(self, news: Callable[[], bytes | None]) -> None:
        self.reads = 0
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
        self.reads += 1
        if (data := self._news()) is not None:
            self._add(data)
        found, self._entries = self._entries, []
        return [[b"stream", found]] if found else None


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


async def test_with_nothing_to_tell_nothing_is_asked():
    """The read that waits in Redis does that; but after a start, so that all that is there is known first."""
    clock = Clock()
    ours, stream = peer("00000001", clock), Stream(lambda: None)
    link = link_of(ours, stream, clock)
    await link.exchange()
    assert ours.share.warm
    before = stream.reads
    assert await link.exchange() is False
    assert stream.reads == before
    ours.pick(digest(b"ours"))
    await link.exchange()
    assert stream.reads == before + 1
