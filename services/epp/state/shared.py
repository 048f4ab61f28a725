"""The shared state of all pools of this process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Self

from services.epp.pool import Pool
from services.epp.records import Ended
from services.epp.scheduling.scorers.session_affinity import SessionId
from services.epp.state.condition import Condition
from services.epp.state.link import Client, Link, Pacing
from services.epp.state.metrics import Lags
from services.epp.state.share import Replica, Share


class Shared:
    """Makes the link of each pool, and finds whose a request is. `on_end` takes ends of requests picked here."""

    def __init__(
        self,
        client: Client,
        replica: Replica,
        *,
        prefix: str,
        pacing: Pacing,
        limit: int,
        clock: Callable[[], float],
        rng: random.Random,
        condition: Condition,
        lags: Lags,
    ) -> None:
        self.shares: dict[str, Share] = {}
        self.on_end: Callable[[Ended], None] = _unknown
        self.holds: Callable[[str], bool] = _holds_none
        """Says whether a proxy has a stream here."""
        self.on_lost: Callable[[str, str], None] = _keep
        """Takes a proxy that is gone, and the pool in which others said so."""
        self.progress: Callable[[], None] = _nobody
        """Called when it may have become time to take requests."""
        self._client = client
        self._replica = replica
        self._prefix = prefix
        self._pacing = pacing
        self._limit = limit
        self._clock = clock
        self._rng = rng
        self._condition = condition
        self._lags = lags
        self._links: dict[str, Link] = {}
        self._sessions: dict[str, SessionId] = {}
        self._waits = True

    async def run(self) -> None:
        """Wait as long as requests may wait for a warm start."""
        await asyncio.sleep(self._pacing.warm)
        self._waits = False
        self.progress()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()
        await asyncio.sleep(0)  # what was cut off while it connected closes in the loop's next turn

    @property
    def warm(self) -> bool:
        """Whether every pool has read what was there at the start, or there was no more time for it."""
        return not self._waits or all(share.warm for share in self.shares.values())

    def attend(self, plugins: Mapping[str, object]) -> None:
        """Share what those of `plugins` remember that remember sessions."""
        self._sessions.clear()
        for name, plugin in plugins.items():
            if isinstance(plugin, SessionId):
                self._sessions[name] = plugin
                plugin.tell(partial(self._bound, name))

    def _bound(self, plugin: str, pool: str, session: str, address: str) -> None:
        if (share := self.shares.get(pool)) is not None:
            share.outbox.bound(plugin, session, address)

    def join(self, pool: Pool) -> tuple[Link, Share]:
        """Return the exchange of `pool`, and what it is about."""
        share = self.shares.get(pool.name)
        if share is None or share.pool is not pool:
            share = self.shares[pool.name] = Share(
                pool,
                self._replica,
                prefix=self._prefix,
                clock=self._clock,
                lease=self._pacing.lease,
                limit=self._limit,
                on_end=self.on_end,
            )
            share.inbox.on_look = self.progress
            share.inbox.sessions = self._sessions
            share.inbox.holds = self.holds
            share.inbox.object = share.outbox.held
            share.inbox.on_lost = partial(self._lost, pool.name)
            self._links[pool.name] = Link(
                self._client,
                share,
                pacing=self._pacing,
                clock=self._clock,
                rng=self._rng,
                condition=self._condition,
                lag=self._lags.of(pool.name),
                warmed=self.progress,
            )
        return self._links[pool.name], share

    def broke(self, pool: Pool, error: BaseException) -> None:
        """Note that the exchange of `pool` ended by a bug: this replica goes on alone there."""
        self._condition.failed(f"{pool.name} exchange", error)
        if (share := self.shares.get(pool.name)) is not None:
            share.inbox.leave()

    def drop(self, pool: str) -> None:
        """Forget a pool that is not configured any more."""
        self.shares.pop(pool, None)
        self._links.pop(pool, None)

    def proxy_came(self, proxy: str) -> None:
        """Tell the others that a proxy opened its first stream here."""
        for share in self.shares.values():
            share.outbox.held(proxy)

    def proxy_gone(self, proxy: str) -> None:
        """Tell them that it closed its last."""
        for share in self.shares.values():
            share.outbox.lost(proxy)

    def _lost(self, pool: str, proxy: str) -> None:
        self.on_lost(proxy, pool)

    def pass_on(self, end: Ended) -> bool:
        """Tell the replica that picked it how a request ended; False when no other replica that lives did."""
        share = self.shares.get(end.pool)
        return share is not None and share.pass_on(end, deaf=not self._condition.up)


def _unknown(end: Ended) -> None:
    """Take no end."""


def _holds_none(_: str) -> bool:
    return False


def _keep(proxy: str, pool: str) -> None:
    """End nothing."""


def _nobody() -> None:
    """Wait for nothing."""
