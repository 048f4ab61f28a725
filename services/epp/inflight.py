"""The load that is true now: what was sent to each server and has not ended yet, here and by other replicas.

A pick counts at once, and is taken off exactly once, however the request ends. What is lost (an end that nobody
reported) expires with its lease.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from services.epp.load import Load
from services.epp.others import Foreign, Others

__all__ = ["DEFAULT_OUTPUT_TOKENS", "PREFILL", "Entry", "InFlight", "Load"]

DEFAULT_OUTPUT_TOKENS = 256
"""Expected answer of a request without a limit: chat answers average a few hundred tokens."""

PREFILL = ".prefill"
"""Added to a decision's id: its share of load on a server that only computes the prompt's cache."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request in flight."""

    id: str
    slot: int
    picked_at: float
    prompt_tokens: int
    output_tokens: int
    blocks: Sequence[int] = ()
    matched: int = 0
    """The first blocks of `blocks` that the server already held at the pick."""
    model: str = ""
    stream: bool = False
    context_tokens: int = 0
    """The whole prompt, cached or not."""
    again_tokens: int = 0
    """Those of them that a conversation which goes on brings again, and that one server alone held at the pick."""
    max_tokens: int = 0
    """The limit that the client set; 0 for none."""
    prompt_bytes: int = 0
    priority: int = 0
    fairness: str = ""
    ahead: float = 0.0
    """Prompt tokens that the server had to compute until the end of this prompt, at the pick."""
    mark: float = 0.0
    """All prompt tokens that its server was ever sent, up to the end of this prompt."""
    stalled: float = 0.0
    """The same, of those only that decoding stands still for: `Pace.stalled`."""
    batch: float = 0.0
    """Requests that were at the server at the pick."""
    reads: float = 0.0
    """Tokens of context of these requests."""
    proxy: str = ""
    """Which proxy it was picked for (`proxies.proxy_name`); empty when that did not say."""
    first_token_slo: float = math.inf
    token_slo: float = math.inf
    """Seconds in which the client wants its first token and each further one."""


LOOKS = 5
"""Scrapes in a row in which a server must report fewer requests than are counted here, before they are taken for lost:
what is on its way, and ends that are not yet told, come and go from one to the next."""
GRACE = 2.0
"""Seconds after its pick in which no request is taken for lost."""


class InFlight:
    """Entries by decision id and their totals by slot. `lease` is in seconds.

    `others` adds what other replicas have in flight to `loads`.
    """

    def __init__(self, *, clock: Callable[[], float], lease: float) -> None:
        self._clock = clock
        self._lease = lease
        self._entries: dict[str, Entry] = {}  # in the order of their picks
        self._unseen: dict[int, dict[str, float]] = {}
        self._tails: dict[int, list[str]] = {}
        """Last complete block → the requests whose prompt ends there."""
        self._answered: set[str] = set()
        """Counted no more, though nobody reported their end yet."""
        self._loads: list[Load] = []
        self.own: list[Load] = []
        """The part of `loads` that was picked here."""
        self.others = Others(self._loads)
        self.changed: set[int] = set()
        """Slots whose own part has changed; whoever tells others of it empties this."""
        self.uncounted: Callable[[Entry], None] = _nobody
        """Called when a request picked here stops counting, and not when it moves."""
        self._looks: dict[int, deque[int]] = {}
        """By how many requests our count was above the server's own, in the last scrapes."""

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def loads(self) -> list[Load]:
        """Totals by slot. Live: read it within one synchronous decision and do not keep it."""
        return self._loads

    def admit(self, slot: int) -> None:
        """Make room for `slot`."""
        new = range(slot + 1 - len(self._loads))
        self._loads.extend(Load() for _ in new)
        self.own.extend(Load() for _ in new)

    def add(self, entry: Entry) -> None:
        """Count `entry` from now on."""
        self._entries[entry.id] = entry
        if entry.blocks:
            self._tails.setdefault(entry.blocks[-1], []).append(entry.id)
        self._count(entry)

    def hear(self, request: Foreign) -> None:
        """Note a request that another replica picked; its load counts with that one's totals."""
        if request.id in self.others.requests:
            self.unhear(request.id)
        self.others.requests[request.id] = request
        if request.tail:
            self._tails.setdefault(request.tail, []).append(request.id)

    def unhear(self, decision: str) -> Foreign | None:
        """Drop a request that its replica does not count any more; None when it is not known."""
        request = self.others.forget(decision)
        if request is not None:
            self._forget_tail(request.id, request.tail)
            self._answered.discard(request.id)
        return request

    def before(self, ends: Iterable[int], tokens: int) -> list[Entry | Foreign]:
        """Return the requests in flight that a prompt of `tokens` looks like the next turn of.

        `ends`: blocks of it, not its last, where prompts that were sent before may end.
        Several that end in the same block are siblings, not turns, and nothing goes on from them.
        """
        tails, own, others = self._tails, self._entries, self.others.requests
        ids = [found[0] for end in ends if (found := tails.get(end)) is not None and len(found) == 1]
        requests = [own.get(one) or others[one] for one in ids if one not in self._answered]
        return [one for one in requests if one.context_tokens < tokens]

    def answered(self, request: Entry | Foreign) -> None:
        """Count a request no more that has been answered, though nobody reported its end yet."""
        self._answered.add(request.id)
        if isinstance(request, Entry):
            self._uncount(request)
            self.uncounted(request)
        else:
            self.others.answered(request)

    def goes_on(self, decision: str) -> bool:
        """Say whether the conversation's next turn was there before the end of this one was told."""
        return decision in self._answered

    def get(self, decision: str) -> Entry | None:
        """Return the entry of a request in flight."""
        return self._entries.get(decision)

    def release(self, decision: str) -> Entry | None:
        """Take a request off; None when it was taken off before, has expired, or never was."""
        entry = self._entries.pop(decision, None)
        if entry is not None:
            self._forget_tail(entry.id, entry.blocks[-1] if entry.blocks else 0)
            if entry.id in self._answered:
                self._answered.discard(entry.id)
            else:
                self._uncount(entry)
                self.uncounted(entry)
        return entry

    def move(self, decision: str, slot: int, *, prompt_tokens: int) -> Entry | None:
        """Count a request at `slot`, which served it in place of the first choice. Returns the entry as it was."""
        entry = self._entries.get(decision)
        if entry is None or entry.slot == slot or decision in self._answered:
            return None
        self._uncount(entry, seen=False)
        moved = replace(entry, slot=slot, prompt_tokens=prompt_tokens)
        self._entries[decision] = moved
        self._count(moved)
        return entry

    def amend(self, entry: Entry) -> None:
        """Replace what is known of a request in flight, apart from what counts as load."""
        self._entries[entry.id] = entry

    def scraped(self, slot: int, began: float) -> None:
        """Note that fresh metrics of `slot` know all that was sent to it before `began`."""
        unseen = self._unseen.get(slot, {})
        for decision, picked_at in list(unseen.items()):
            if picked_at >= began:
                break
            del unseen[decision]
        self._set_unseen(slot, len(unseen), finished=0)

    def reconcile(self, slot: int, reported: int) -> list[Entry]:
        """Drop what `slot` has not got any more, and return it: ends that nobody told.

        `reported` is what the server runs and queues, fresh. It may serve others too, so that it tells the most that
        can still be ours; the oldest go, and where another replica picked those, it is that one's to say so. To be
        called after `scraped`.
        """
        load, looks = self._loads[slot], self._looks.setdefault(slot, deque(maxlen=LOOKS))
        looks.append(load.requests - load.unseen - reported)
        lost = min(looks) if len(looks) == LOOKS else 0
        if lost <= 0:
            return []
        looks.clear()
        before = min(self._clock() - GRACE, self.others.oldest(slot))
        old = (one for one in self._entries.values() if one.slot == slot and one.picked_at < before)
        gone = [one for one in old if one.id not in self._answered][:lost]
        for entry in gone:
            self.release(entry.id)
        self._set_unseen(slot, len(self._unseen.get(slot, ())), finished=0)
        return gone

    def forget(self, slot: int) -> None:
        """Drop what is counted at a server that left the pool; ends reported later find nothing."""
        for entry in [one for one in self._entries.values() if one.slot == slot]:
            self.release(entry.id)
        for request in [one for one in self.others.requests.values() if one.slot == slot]:
            self.unhear(request.id)
        self.others.vacate(slot)
        self._unseen.pop(slot, None)
        self._looks.pop(slot, None)
        if slot < len(self._loads):
            self._loads[slot] = Load()
            self.own[slot] = Load()
            self.changed.discard(slot)

    def expire(self) -> list[Entry]:
        """Release what is older than the lease and return it."""
        oldest = self._clock() - self._lease
        expired = []
        for entry in self._entries.values():
            if entry.picked_at > oldest:
                break
            expired.append(entry)
        for entry in expired:
            self.release(entry.id)
        return expired

    def _forget_tail(self, id_: str, tail: int) -> None:
        if tail:
            ids = self._tails[tail]
            ids.remove(id_)
            if not ids:
                del self._tails[tail]

    def _count(self, entry: Entry) -> None:
        slot = entry.slot
        for load in (self._loads[slot], self.own[slot]):
            load.requests += 1
            load.prompt_tokens += entry.prompt_tokens
            load.output_tokens += entry.output_tokens
            load.context_tokens += entry.context_tokens
            load.unseen += 1
        self._unseen.setdefault(slot, {})[entry.id] = entry.picked_at
        self.changed.add(slot)

    def _uncount(self, entry: Entry, *, seen: bool = True) -> None:
        """Take `entry` off its slot's totals. `seen`: its server had it, so that its metrics may still show it."""
        slot = entry.slot
        unseen = self._unseen[slot].pop(entry.id, None) is not None
        for load in (self._loads[slot], self.own[slot]):
            load.requests -= 1
            load.prompt_tokens -= entry.prompt_tokens
            load.output_tokens -= entry.output_tokens
            load.context_tokens -= entry.context_tokens
            if unseen:
                load.unseen -= 1
            elif seen:
                load.finished += 1
        self.changed.add(slot)

    def _set_unseen(self, slot: int, unseen: int, *, finished: int) -> None:
        own, load = self.own[slot], self._loads[slot]
        if (own.unseen, own.finished) == (unseen, finished):
            return
        load.unseen += unseen - own.unseen
        load.finished += finished - own.finished
        own.unseen, own.finished = unseen, finished
        self.changed.add(slot)


def _nobody(entry: Entry) -> None:
    """Tell nobody of `entry`."""
