"""Keep the pools current: for each, names are resolved and servers are asked for their metrics, as configured."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping
from functools import partial
from typing import Self

import aiohttp

from services.epp.config import EndpointPickerConfig, PoolSpec
from services.epp.discovery import Discovery
from services.epp.eds import Changes
from services.epp.kvevents.metrics import KvEventMetrics
from services.epp.metrics import PrometheusObserver
from services.epp.pool import Pool
from services.epp.scrape import Scraper
from services.epp.state import Alone, Turns
from services.epp.state.shared import Shared
from services.extproc.background import background
from services.extproc.lifecycle import Parts
from services.extproc.readiness import Readiness
from services.tokens.metrics import PrometheusObserver as TokenMetrics
from services.tokens.source import Tokens, tokenizing


class Upkeep(contextlib.AsyncExitStack):
    """The loops of all pools. They end with its block."""

    def __init__(
        self,
        pools: Mapping[str, Pool],
        *,
        observer: PrometheusObserver,
        changes: Changes,
        parts: Parts,
        rng: random.Random,
        shared: Shared | None = None,
    ) -> None:
        super().__init__()
        self._pools = pools
        self._observer = observer
        self._changes = changes
        self._parts = parts
        self._rng = rng
        self._shared = shared
        if shared is not None:
            shared.progress = self._looked
        self._session = _session()
        self.tokens: dict[str, Tokens] = {}
        """By pool, where prompts are known in tokens."""
        self._token_metrics = TokenMetrics(parts.registry, "epp")
        self._kv_events = KvEventMetrics(parts.registry)
        self._views = parts.details["kv_events"] = Readiness()
        self._running: dict[str, tuple[PoolSpec, contextlib.AsyncExitStack]] = {}

    async def follow(self, config: EndpointPickerConfig) -> None:
        """Make the loops those of `config`: start, stop, and start anew what is configured otherwise than before."""
        specs = {spec.name: spec for spec in config.pools}
        for name, (spec, loops) in list(self._running.items()):
            if specs.get(name) != spec:
                del self._running[name]
                await loops.aclose()
            if name not in specs and self._shared is not None:
                self._shared.drop(name)
        for name, spec in specs.items():
            if name not in self._running:
                loops = contextlib.AsyncExitStack()
                self._running[name] = (spec, loops)
                await self._start(spec, loops)
        self._heard()

    def failed(self, error: BaseException) -> None:
        """Say that a loop broke, which is a bug, and take no more requests: what is known grows old."""
        self._parts.readiness.set(False)
        for observer in self._parts.observers:
            observer.failed(error)

    def _broke(self, shared: Shared, pool: Pool, error: BaseException) -> None:
        """Say that an exchange broke, and go on without: others may have the same news to break over."""
        shared.broke(pool, error)
        for observer in self._parts.observers:
            observer.failed(error)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.enter_async_context(self._session)
        self.push_async_callback(self._stop)
        return self

    async def _stop(self) -> None:
        for _, loops in self._running.values():
            await loops.aclose()

    async def _start(self, spec: PoolSpec, loops: contextlib.AsyncExitStack) -> None:
        pool = self._pools[spec.name]
        discovery = Discovery(spec, pool, observer=self._observer, changed=self._changed)
        await loops.enter_async_context(background(discovery.run(), on_failure=self.failed))
        turns: Turns = Alone()
        if self._shared is not None:
            link, turns = self._shared.join(pool)
            broke = partial(self._broke, self._shared, pool)
            await loops.enter_async_context(background(link.run(), on_failure=broke))
        if spec.metrics.enabled:
            scraper = Scraper(
                pool,
                spec.metrics,
                self._session,
                clock=time.monotonic,
                rng=self._rng,
                observer=self._observer,
                looked=self._looked,
                turns=turns,
            )
            await loops.enter_async_context(background(scraper.run(), on_failure=self.failed))
        if spec.tokens is not None:
            sources = {spec.name: spec.tokens}
            made = await loops.enter_async_context(tokenizing(sources, self._token_metrics))
            self.tokens.update(made)
            loops.callback(self.tokens.pop, spec.name)
        if spec.kv_events is not None:
            # pyzmq is an extra: only who configures events has it.
            from services.epp.kvevents.listener import listening  # noqa: PLC0415

            run = listening(pool, spec.kv_events, observer=self._kv_events, heard=self._heard)
            await loops.enter_async_context(background(run, on_failure=self.failed))

    def _heard(self) -> None:
        """Say whether all is known of every server that should tell of its cache."""
        pools = [self._pools[name] for name, (spec, _) in self._running.items() if spec.kv_events]
        self._views.set(all(map(_told, pools)))

    def _looked(self) -> None:
        """Take requests once every pool has been looked at and what other replicas know is known here too.

        Never go back: a pool may lose all its servers.
        """
        if (self._shared is None or self._shared.warm) and all(
            pool.complete for pool in self._pools.values()
        ):
            self._parts.readiness.set(True)

    def _changed(self) -> None:
        """Tell the proxy."""
        self._changes.notify()
        self._looked()


def _told(pool: Pool) -> bool:
    servers = pool.snapshot.servers
    return bool(servers) and all(pool.exact.whole(server.slot) for server in servers)


def _session() -> aiohttp.ClientSession:
    # One connection for each server is enough and no bound on their number; DNS is asked elsewhere.
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=1)
    return aiohttp.ClientSession(connector=connector, headers={"accept": "text/plain; version=0.0.4"})
