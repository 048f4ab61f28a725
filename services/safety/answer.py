"""A streamed answer on its way: the rules' filter, then the window of all judges of whole texts; or neither touches it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from services.openai.texts import Json, Path, Text
from services.safety.judge import Tally, judge_hidden
from services.safety.policy import Side, StreamMode
from services.safety.remote import as_edited
from services.safety.stream import StreamFilter
from services.safety.window import HELD, Window

Ask = Callable[[Sequence[Text], bool], Awaitable[Mapping[Path, Json]]]
"""Asks the side's providers into the tally; the flag says that the texts end with these pieces."""


class StreamedAnswer:
    """One answer under one side."""

    def __init__(self, side: Side, tally: Tally, ask: Ask) -> None:
        self._side = side
        self._tally = tally
        self._ask = ask
        self._audit = side.stream is StreamMode.AUDIT
        self._filter = StreamFilter(side, tally)
        self._window = None if side.stream is StreamMode.EXACT else Window(side)

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
        out, tally = [], self._tally
        for texts in window.take(data, end=end):
            before, tally.findings = tally.findings, []
            edits, blocked = await self._judge(texts, end=end)
            out.append(window.end() if blocked else window.settle(edits))
            tally.findings = [*before, *window.located(tally.findings)]
            if blocked:
                break
        if not window.ended:
            out.append(window.release())
            window.ended = self._filter.ended
        return b"".join(out)

    async def _judge(self, texts: Sequence[Text], *, end: bool) -> tuple[dict[Path, Json], str]:
        """Judge what the window shows: what rules find in whole texts only, then the providers.

        Returns what to change, and the category that blocks if one does.
        """
        by_rules, self._tally.block = self._tally.block, ""
        edits = judge_hidden([text for text in texts if text.path[0] == HELD], self._side, self._tally)
        if self._side.providers and not self._tally.block:
            edits |= await self._ask(as_edited(texts, edits), end)
        blocked, self._tally.block = self._tally.block, by_rules or self._tally.block
        return edits, blocked
