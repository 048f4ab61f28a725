"""This replica's part in the shared state of one pool: what it tells, what it hears, and its lease."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import xxhash

from services.epp.pool import Pool
from services.epp.records import Ended
from services.epp.state.inbox import Inbox
from services.epp.state.lease import Lease, lease_key, stream_key
from services.epp.state.outbox import Outbox

PATIENCE = 2
"""Intervals without news after which a server's scraper is silent, and one more for each replica that comes first."""


@dataclass(frozen=True, slots=True)
class Replica:
    """Who this process is among the replicas."""

    owner: str
    """The first part of its decision ids."""
    name: str
    """For people: host and process."""
    started_at: float
    """A reading of the clock, in seconds."""


class Share:
    """The shared state of `pool`, apart from the transport. `lease` is in seconds, `limit` in entries of each kind."""

    def __init__(
        self,
        pool: Pool,
        replica: Replica,
        *,
        prefix: str,
        clock: Callable[[], float],
        lease: float,
        limit: int,
        on_end: Callable[[Ended], None],
    ) -> None:
        self.pool = pool
        self.outbox = Outbox(pool, replica.owner, clock=clock, limit=limit)
        self.inbox = Inbox(pool, replica.owner, clock=clock, lease=lease, on_end=on_end)
        self.stream = stream_key(prefix, pool.name)
        self.key = lease_key(prefix, pool.name, replica.owner)
        self.warm = False
        """All that was there at the start has been read."""
        self.bytes = 0
        """Of all batches that were told."""
        self.takeovers = 0
        """Counts servers whose scraper fell silent, so that they were asked from here."""
        self._replica = replica
        self._clock = clock
        self._standing_in: set[str] = set()
        self._since: dict[str, float] = {}
        pool.listener = self.outbox
        pool.inflight.uncounted = self.outbox.uncounted

    def lease(self, *, degraded: float, lag: float) -> Lease:
        """Return what the lease's key says."""
        return Lease(
            owner=self._replica.owner,
            name=self._replica.name,
            up_seconds=self._clock() - self._replica.started_at,
            degraded_seconds=degraded,
            lag_seconds=lag,
            dropped=self.outbox.dropped,
            endpoints=self.outbox.shares(lambda address: not self._place(address)),
        )

    def turn(self, address: str, interval: float) -> bool:
        """Say whether to ask the server at `address` for its metrics now; `interval`: seconds between two questions.

        One replica asks each server, by rendezvous hashing over those that live (Thaler, Ravishankar 1998). While it
        is silent the next one does, then the one after: each waits an interval longer than the one before. It waits
        from the last look it heard of, which was long before it started when it follows on one that was killed.
        """
        place, now = self._place(address), self._clock()
        if not place:
            self._standing_in.discard(address)
            return True
        last = self.inbox.looks.get(address)
        if last is None:
            last = self._since.setdefault(address, now)
        if now - last <= (PATIENCE + place) * interval:
            self._standing_in.discard(address)
            return False
        if address not in self._standing_in:
            self._standing_in.add(address)
            self.takeovers += 1
        return True

    def pass_on(self, end: Ended, *, deaf: bool = False) -> bool:
        """Tell the replica that picked it how a request ended; False when no other replica that lives did.

        `deaf`: nobody can be heard now, and whoever picked it will be told later.
        """
        owner = end.decision.partition("-")[0]
        if not deaf and not self.inbox.lives(owner):
            return False
        self.outbox.ended(owner, end)
        return True

    def _place(self, address: str) -> int:
        """Return how many replicas come before this one in asking `address`."""
        mine = _weight(self._replica.owner, address)
        return sum(_weight(owner, address) > mine for owner in self.inbox.living)


def _weight(owner: str, address: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{owner} {address}".encode())
