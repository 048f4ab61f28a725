"""Which server holds which token blocks, by its own word. Sans-IO.

A server names its blocks by hashes of its own, so for each server a map leads from its hash to ours, which is chained
over the block's tokens (`services.openai.exact`). A prompt's hashes are looked up as in the approximate index: hash →
holders as an integer with one bit for each slot.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.epp.kvevents.wire import Cleared, Event, Removed, Stored
from services.epp.prefix import contiguous
from services.openai.digest import BOUNDARIES
from services.openai.exact import DEPTHS, TOKEN, Exact, chained, root

DEFAULT_BLOCKS = 2_000_000
"""Blocks times holders remembered in all, some 210 bytes each (measured: `bench.kv_events`): 420 MB."""
SPARE = 64
"""Blocks that the largest holder forgets at once when there are too many in all."""
SOON = 2.0
"""Seconds for which a server counts as holding what was just sent there: the reference's `speculativeTTL`. vLLM tells of
blocks when it schedules them, and siblings of a burst come before that."""

TRUSTED, MEMORY = 0.5, 20
"""A model's prompts count as known in tokens while more than this share, of the last so many, is told of by the servers.
A queue of more than `SOON` seconds lowers it too, and then the estimate is as good."""
MODELS = 1_000
"""Remembered: models and adapters that prompts are tokenized for."""


@dataclass(slots=True)
class Counts:
    """What happened in a pool, in blocks."""

    stored: int = 0
    removed: int = 0
    cleared: int = 0
    """Not blocks: how often a server forgot all."""
    orphans: int = 0
    """Stored after a block that is not known here, so that their place in a prompt is not known either."""


class _View:
    """One server's blocks, oldest first."""

    __slots__ = ("block_size", "copies", "own", "whole")

    def __init__(self) -> None:
        self.block_size = 0
        self.whole = False
        self.own: dict[tuple[int, int], int] = {}
        """Its group and hash → our hash."""
        self.copies: dict[tuple[int, int], int] = {}
        """How many more of a block it has: two requests that compute the same at once both keep theirs."""


class ExactIndex:
    """All servers of one pool, by slot. `blocks` bounds the whole; beyond it the largest view loses its oldest.

    A view is *whole* when the server cannot hold more than it says here. Only then its silence means anything.
    """

    def __init__(self, blocks: int = DEFAULT_BLOCKS) -> None:
        self.limit = blocks
        self.counts = Counts()
        self._pairs = 0
        self._views: dict[int, _View] = {}
        self._holders: dict[int, int] = {}
        self._soon: dict[int, int] = {}
        self._until: dict[tuple[int, int], float] = {}
        """Slot and hash → when `_soon` ends."""
        self._due: deque[tuple[float, int, Sequence[int]]] = deque()
        self._first: dict[tuple[int, int], str] = {}
        """Slot and the first hash that is new there → the model it was computed for."""
        self._trust: dict[str, float] = {}

    def __len__(self) -> int:
        return self._pairs

    def size(self, slot: int) -> int:
        """Return how many blocks `slot` says it holds."""
        view = self._views.get(slot)
        return len(view.own) if view is not None else 0

    def whole(self, slot: int) -> bool | None:
        """Say whether all that `slot` holds is known; None when it does not tell of itself."""
        view = self._views.get(slot)
        return None if view is None else view.whole

    def begin(self, slot: int, *, whole: bool) -> None:
        """Forget all of `slot`; what comes now is everything that it holds, or not (`whole` false)."""
        self.forget(slot)
        self._views[slot] = view = _View()
        view.whole = whole

    def forget(self, slot: int) -> None:
        """Forget a server that left, so that its slot can be used again."""
        view = self._views.pop(slot, None)
        for own in view.own.values() if view is not None else ():
            self._clear(own, slot)
        for until, at, hashes in self._due:
            if at == slot:
                self._unexpect(slot, hashes, until)

    def apply(self, slot: int, event: Event) -> None:
        """Take in what a server tells."""
        view = self._views.setdefault(slot, _View())
        match event:
            case Stored():
                self._store(slot, view, event)
            case Removed():
                self._remove(slot, view, event)
            case Cleared():
                self.counts.cleared += 1
                self.begin(slot, whole=True)

    def trust(self, model: str) -> float:
        """Return the share of prompts of `model`, lately, of which the server told soon after it got them.

        If it does not, the tokens are others than those that it computes: another template or vocabulary, or an
        adapter that it tells of by number. Then its silence means nothing.
        """
        return self._trust.get(model, 1.0)

    @property
    def least_trust(self) -> float:
        """The smallest of all models' `trust`."""
        return min(self._trust.values(), default=1.0)

    def expect(self, slot: int, exact: Exact, now: float, model: str = "") -> None:
        """Count `exact` as held by `slot`, to which it was just sent, until it can say so itself."""
        until, bit = now + SOON, 1 << slot
        new = [own for own in exact.hashes if not self._holders.get(own, 0) & bit]
        for own in new:
            self._soon[own] = self._soon.get(own, 0) | bit
            self._until[slot, own] = until
        self._due.append((until, slot, new))
        if new and slot in self._views:
            self._first[slot, new[0]] = model
        self._lapse(now)

    def correct(
        self, sent: Mapping[int, int], exact: Exact, now: float, model: str = ""
    ) -> Mapping[int, int]:
        """Return `sent`, how much of a prompt each slot was sent, in blocks of its digest, put right by what is held.

        As far as `exact` covers the prompt the servers' word counts; beyond, and for servers without a word, `sent`.
        """
        self._lapse(now)
        if not exact.hashes or self.trust(model) < TRUSTED:
            return sent
        holders, soon = self._holders.get, self._soon.get
        held = contiguous(exact.hashes, lambda own, none: holders(own, none) | soon(own, none))
        found = {
            slot: self._believed(slot, held.get(slot, 0), sent, exact) for slot in held.keys() | sent.keys()
        }
        return {slot: blocks for slot, blocks in found.items() if blocks}

    def _believed(self, slot: int, depth: int, sent: Mapping[int, int], exact: Exact) -> int:
        view, before = self._views.get(slot), sent.get(slot, 0)
        if view is None or view.block_size not in {0, exact.block_size}:
            return before
        if depth == len(exact.hashes):
            return max(before, bisect.bisect_right(BOUNDARIES, exact.prompt_bytes))
        tokens = DEPTHS[depth - 1] * exact.block_size if depth else 0
        known = bisect.bisect_right(BOUNDARIES, exact.prompt_bytes * tokens // exact.tokens)
        return known if view.whole else max(known, before)

    def _store(self, slot: int, view: _View, event: Stored) -> None:
        own = root(event.adapter) if event.parent is None else view.own.get((event.group, event.parent))
        if own is None:
            self.counts.orphans += len(event.keys)
            view.whole = False
            return
        view.block_size, width = event.block_size, event.block_size * TOKEN
        tokens = memoryview(event.tokens)
        for position, key in enumerate(event.keys):
            extra = event.extras[position] if event.extras else b""
            own = chained(own, tokens[position * width : (position + 1) * width], extra)
            self._hold(slot, view, (event.group, key), own)
        self.counts.stored += len(event.keys)
        while self._pairs > self.limit:
            self._spare()

    def _hold(self, slot: int, view: _View, key: tuple[int, int], own: int) -> None:
        if (slot, own) in self._until:
            self._settle(slot, own, told=1.0)  # from here on its word counts
        if key in view.own:
            view.copies[key] = view.copies.get(key, 0) + 1
            return
        view.own[key] = own
        self._holders[own] = self._holders.get(own, 0) | (1 << slot)
        self._pairs += 1

    def _remove(self, slot: int, view: _View, event: Removed) -> None:
        self.counts.removed += len(event.keys)
        for key in ((event.group, key) for key in event.keys):
            if key in view.copies:
                view.copies[key] -= 1
                if not view.copies[key]:
                    del view.copies[key]
            elif (own := view.own.pop(key, None)) is not None:
                self._clear(own, slot)

    def _spare(self) -> None:
        slot, view = max(self._views.items(), key=lambda item: len(item[1].own))
        view.whole = False
        for key in list(view.own)[:SPARE]:
            view.copies.pop(key, None)
            self._clear(view.own.pop(key), slot)

    def _clear(self, own: int, slot: int) -> None:
        self._pairs -= 1
        left = self._holders.get(own, 0) & ~(1 << slot)
        if left:
            self._holders[own] = left
        else:
            self._holders.pop(own, None)

    def _lapse(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            until, slot, hashes = self._due.popleft()
            self._unexpect(slot, hashes, until, told=0.0)

    def _unexpect(self, slot: int, hashes: Sequence[int], until: float, told: float | None = None) -> None:
        for own in hashes:
            if self._until.get((slot, own), math.inf) <= until:
                self._settle(slot, own, told)

    def _settle(self, slot: int, own: int, told: float | None) -> None:
        """End an expectation; `told` is 1 when the server has told of it, 0 when it should have."""
        model = self._first.pop((slot, own), None)
        if model is not None and told is not None:
            if len(self._trust) >= MODELS:
                self._trust.clear()
            self._trust[model] = self.trust(model) + (told - self.trust(model)) / MEMORY
        del self._until[slot, own]
        left = self._soon[own] & ~(1 << slot)
        if left:
            self._soon[own] = left
        else:
            del self._soon[own]
