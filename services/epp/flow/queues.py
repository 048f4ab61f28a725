"""The waiting requests of one pool: bands by priority, bounded in number and bytes. Pure: no clock, no I/O.

The highest band with a request goes first. So that a lower band never waits for ever, one dispatch in
`oldest_every` goes to the request that has waited longest, whatever its band.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from services.epp.flow.policies import Fairness, FirstCome, GlobalStrict, Item, Ordering

BAND_REQUESTS = 5000
BAND_BYTES = 1_000_000_000
"""Of a band, as in the reference's newest version."""
OLDEST_EVERY = 20
"""A twentieth for those who wait longest: a band that is passed over all day still moves, and hardly shows in others."""


@dataclass(frozen=True, slots=True)
class Band:
    """One priority's limits and policies."""

    max_requests: int = BAND_REQUESTS
    max_bytes: int = BAND_BYTES
    fairness: Fairness = field(default_factory=GlobalStrict)
    ordering: Ordering = field(default_factory=FirstCome)
    ttl: float | None = None
    """Seconds that its requests wait; None for the pool's."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of all bands together, and what a priority without a band of its own gets."""

    max_requests: int = 2 * BAND_REQUESTS
    max_bytes: int = 2 * BAND_BYTES
    default: Band = field(default_factory=Band)
    negative: Band | None = None
    """For priorities below 0; None for `default`."""
    bands: Mapping[int, Band] = field(default_factory=dict)
    oldest_every: int = OLDEST_EVERY
    """0 leaves the strict order of the bands alone."""

    def band(self, priority: int) -> Band:
        """Return the band of `priority`."""
        if priority in self.bands:
            return self.bands[priority]
        return self.negative if priority < 0 and self.negative is not None else self.default


class Full(Exception):
    """No room for a request; `what` says of which limit."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class _Waiting:
    """One band as it is now."""

    def __init__(self, band: Band) -> None:
        self.band = band
        self.items: dict[int, Item] = {}
        self.bytes = 0
        self.turns = band.fairness.turns(band.ordering)


class Queues:
    """All that wait for one pool."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._bands: dict[int, _Waiting] = {}
        self._requests = 0
        self._bytes = 0
        self._served = 0
        self.elsewhere: Mapping[int, tuple[int, int]] = {}
        """Requests and bytes that wait at other gates of the same pool, by priority: they count for all limits."""

    def __len__(self) -> int:
        return self._requests

    @property
    def bytes(self) -> int:
        """Of all requests."""
        return self._bytes

    def __iter__(self) -> Iterator[Item]:
        return (item for waiting in self._bands.values() for item in waiting.items.values())

    def add(self, item: Item) -> tuple[Item, ...]:
        """Let `item` wait; return the sheddable requests that had to go for it. Raises `Full`.

        Its own band's limits are hard. At the limits over all bands it takes the place of the newest requests of
        lower, sheddable bands.
        """
        waiting = self._bands.get(item.priority) or _Waiting(self.limits.band(item.priority))
        band, (requests, size) = waiting.band, self.elsewhere.get(item.priority, (0, 0))
        full = len(waiting.items) + requests >= band.max_requests
        if full or waiting.bytes + size + item.bytes > band.max_bytes:
            raise Full(f"the queue of priority {item.priority}")
        evicted = self._make_room(item)
        self._bands[item.priority] = waiting
        waiting.items[item.id] = item
        waiting.bytes += item.bytes
        waiting.turns.add(item)
        self._requests += 1
        self._bytes += item.bytes
        return evicted

    def remove(self, item: Item) -> bool:
        """Take `item` out because it left; return whether it was still in."""
        return self._take(item, served=False)

    def first(self) -> Item | None:
        """Return the request that goes next, and leave it in; None when nobody waits."""
        busy = {priority: waiting for priority, waiting in self._bands.items() if waiting.items}
        if not busy:
            return None
        every = self.limits.oldest_every
        if every and self._served % every == every - 1:
            return min((next(iter(waiting.items.values())) for waiting in busy.values()), key=_age)
        return busy[max(busy)].turns.first()

    def serve(self, item: Item) -> None:
        """Take out `item`, which `first` returned: it goes now."""
        self._take(item, served=True)
        self._served += 1

    def turn_taken(self, priority: int, flow: str, tokens: int) -> None:
        """Note that a request had its turn at another gate of the same pool."""
        if (waiting := self._bands.get(priority)) is not None:
            waiting.turns.elsewhere(flow, tokens)

    def bands(self) -> tuple[tuple[int, int, int], ...]:
        """Return priority, requests and bytes of every band that is not empty, the highest first."""
        busy = sorted([priority for priority, band in self._bands.items() if band.items], reverse=True)
        return tuple([(one, len(self._bands[one].items), self._bands[one].bytes) for one in busy])

    def _take(self, item: Item, *, served: bool) -> bool:
        waiting = self._bands.get(item.priority)
        if waiting is None or waiting.items.pop(item.id, None) is None:
            return False
        waiting.turns.remove(item, served=served)
        waiting.bytes -= item.bytes
        self._requests -= 1
        self._bytes -= item.bytes
        return True

    def _make_room(self, item: Item) -> tuple[Item, ...]:
        victims: list[Item] = []
        requests = self._requests + sum(requests for requests, _ in self.elsewhere.values()) + 1
        size = self._bytes + sum(size for _, size in self.elsewhere.values()) + item.bytes
        candidates = self._sheddable(below=item.priority)
        while requests > self.limits.max_requests or size > self.limits.max_bytes:
            victim = next(candidates, None)
            if victim is None:
                raise Full("the queue")
            victims.append(victim)
            requests, size = requests - 1, size - victim.bytes
        for victim in victims:
            self.remove(victim)
        return tuple(victims)

    def _sheddable(self, *, below: int) -> Iterator[Item]:
        for priority in sorted(priority for priority in self._bands if priority < min(below, 0)):
            yield from reversed(self._bands[priority].items.values())


def _age(item: Item) -> tuple[float, int]:
    return item.arrived, item.id
