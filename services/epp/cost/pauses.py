"""Conversations that pause: nothing of them is in flight, yet they come back to the server that has their prompt.

What a turn that ended left in the cache is counted at its server for as long as most pauses are. How long these are is
learnt from those that go on. `Pace.paused_tokens` holds the total, so that a decision reads one number of each server.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.epp.cost.pace import Pace
from services.epp.cost.typical import EXPECTED, Typical

LONGEST = 60.0
"""Seconds for which the end of a turn is remembered, to learn how long pauses are: whoever comes back later finds little
of a busy server's cache."""


@dataclass(frozen=True, slots=True)
class _Pause:
    slot: int
    tokens: int
    since: float


class Pauses:
    """Turns that ended, by the last block of their prompt. `clock` is in seconds."""

    def __init__(self, paces: list[Pace], typical: Typical, clock: Callable[[], float]) -> None:
        self._paces = paces
        self._typical = typical
        self._clock = clock
        self._counted: OrderedDict[int, _Pause] = OrderedDict()
        """In the order in which they began."""
        self._remembered: OrderedDict[int, _Pause] = OrderedDict()
        """Those that are not expected any more, and would only tell how long pauses can be."""

    def __len__(self) -> int:
        return len(self._counted) + len(self._remembered)

    def begin(self, slot: int, tail: int, tokens: int) -> None:
        """Count a conversation of `tokens` as paused at `slot`. Its prompt so far ends with the block `tail`."""
        self.expire()
        self._drop(tail)
        self._counted[tail] = _Pause(slot, tokens, self._clock())
        self._paces[slot].paused_tokens += tokens

    def end(self, tails: Iterable[int]) -> bool:
        """Note that the conversations go on whose prompts ended with one of `tails`; say whether any does."""
        known = [tail for tail in tails if tail in self._counted or tail in self._remembered]
        for pause in map(self._drop, known):
            if pause is not None:
                self._typical.paused(self._clock() - pause.since)
        return bool(known)

    def expire(self) -> None:
        """Count those no more that have paused for too long."""
        now = self._clock()
        unexpected = now - EXPECTED * self._typical.pause
        while self._counted and (first := next(iter(self._counted.items())))[1].since < unexpected:
            self._uncount(*first)
            self._remembered[first[0]] = first[1]
        while self._remembered and next(iter(self._remembered.values())).since < now - LONGEST:
            self._remembered.popitem(last=False)

    def forget(self, slot: int) -> None:
        """Forget those at a server that has left or lost its cache."""
        for among in (self._counted, self._remembered):
            for tail in [tail for tail, pause in among.items() if pause.slot == slot]:
                self._drop(tail)

    def _drop(self, tail: int) -> _Pause | None:
        pause = self._counted.get(tail)
        if pause is not None:
            self._uncount(tail, pause)
            return pause
        return self._remembered.pop(tail, None)

    def _uncount(self, tail: int, pause: _Pause) -> None:
        del self._counted[tail]
        self._paces[pause.slot].paused_tokens -= pause.tokens
