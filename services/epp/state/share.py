"""This replica's part in the shared state of one pool: what it tells, what it hears, and its lease."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.epp.pool import Pool
from services.epp.records import Ended
from services.epp.state.inbox import Inbox
from services.epp.state.lease import Lease, lease_key, stream_key
from services.epp.state.outbox import Outbox


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
        self._replica = replica
        self._clock = clock
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
            endpoints=self.outbox.shares(),
        )
