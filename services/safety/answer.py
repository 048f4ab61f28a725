"""A streamed answer on its way: the rules' filter, then the window of the remote judges; or neither touches it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from services.openai.texts import Json, Path, Text
from services.safety.judge import Tally
from services.safety.policy import Side, StreamMode
from services.safety.stream import StreamFilter
from services.safety.window import Window

Ask = Callable[[Sequence[Text], bool], Awaitable[Mapping[Path, Json]]]
"""Asks the side's providers into the tally; the flag says that the texts end with these pieces."""


class StreamedAnswer:
    """One answer under one side."""

    def __init__(self, side: Side, tally: Tally, ask: Ask) -> None:
        self._tally = tally
        self._ask = ask
        self._audit = side.stream is StreamMode.AUDIT
        self._filter = StreamFilter(side, tally)
        self._window = Window(side) if side.providers else None

    @property
    def ended(self) -> bool:
        """Whether the answer ends here, before the server's own end."""
        return not self._audit and self._judged

    @property
    def most_held(self) -> int:
        """The most bytes of one text that the rules held."""
        return 0 if self._audit else self._filter.most_held

    async def feed(self, data: bytes, *, end: bool) -> bytes:
        """Return what leaves in place of `data`."""
        out = data if self._judged else await self._feed(data, end=end)
        return data if self._audit else out

    @property
    def _judged(self) -> bool:
        return self._window.ended if self._window else self._filter.ended

    async def _feed(self, data: bytes, *, end: bool) -> bytes:
        out = self._filter.feed(data, end=end)
        if self._window is None:
            return out
        return await self._through(self._window, out, end=end or self._filter.ended)

    async def _through(self, window: Window, data: bytes, *, end: bool) -> bytes:
        out = []
        for texts in window.take(data, end=end):
            by_rules, self._tally.block = self._tally.block, ""
            edits = await self._ask(texts, end)
            blocked, self._tally.block = self._tally.block, by_rules or self._tally.block
            if blocked:
                out.append(window.end())
                break
            out.append(window.settle(edits))
        if not window.ended:
            out.append(window.release())
            window.ended = self._filter.ended
        return b"".join(out)
