"""Put the picker together: configuration → objects → what runs in the background → the gRPC services."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import click
import msgspec

from services.epp.accesslog import AccessLog
from services.epp.assemble import assemble, make_pools, override_endpoints
from services.epp.config import EndpointPickerConfig, Redis
from services.epp.director import Director
from services.epp.discovery import Discovery
from services.epp.eds import Changes, EndpointDiscovery
from services.epp.metrics import PoolCollector, PrometheusObserver
from services.epp.pool import Pool
from services.epp.redis_probe import RedisProbe
from services.epp.scrape import Scraper
from services.epp.service import EndpointPicker
from services.epp.state import Alone
from services.extproc.background import background
from services.extproc.lifecycle import App, Parts
from services.extproc.main import command


@dataclass(frozen=True, slots=True)
class _Background:
    """What runs beside the streams needs all of these."""

    config: EndpointPickerConfig
    pools: Mapping[str, Pool]
    observer: PrometheusObserver
    changes: Changes
    parts: Parts
    rng: random.Random

    def looked(self) -> None:
        """Take requests once every pool has been looked at; never go back, a pool may lose all its servers."""
        if all(pool.complete for pool in self.pools.values()):
            self.parts.readiness.set(True)

    def changed(self) -> None:
        """Tell the proxy."""
        self.changes.notify()
        self.looked()

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Start everything; it ends with `stack`."""
        session = await stack.enter_async_context(_session())
        for spec in self.config.pools:
            pool = self.pools[spec.name]
            discovery = Discovery(spec, pool, observer=self.observer, changed=self.changed)
            await stack.enter_async_context(background(discovery.run(), on_failure=self._failed))
            if spec.metrics.enabled:
                scraper = Scraper(
                    pool,
                    spec.metrics,
                    session,
                    clock=time.monotonic,
                    rng=self.rng,
                    observer=self.observer,
                    looked=self.looked,
                )
                await stack.enter_async_context(background(scraper.run(), on_failure=self._failed))
        if self.config.redis.url:
            probe = RedisProbe(self.config.redis.url, self.observer.redis)
            await stack.enter_async_context(background(probe.run(), on_failure=self._failed))

    def _failed(self, error: BaseException) -> None:
        """Say that a loop broke, which is a bug, and take no more requests: what is known grows old."""
        self.parts.readiness.set(False)
        for observer in self.parts.observers:
            observer.failed(error)


@contextlib.asynccontextmanager
async def build(config: EndpointPickerConfig, parts: Parts) -> AsyncIterator[App]:
    """Build the service and keep its background work running while the block runs."""
    rng = random.Random()
    pools = make_pools(config, time.monotonic)
    observer = PrometheusObserver(parts.registry)
    assembly = assemble(config)
    director = Director(
        pools,
        assembly.scheduler,
        detector=assembly.detector,
        objectives=assembly.objectives,
        clock=time.monotonic,
        rng=rng,
        observer=observer,
        state=Alone(),
        default_pool=config.default_pool,
        zone=config.zone,
    )
    parts.registry.register(PoolCollector(pools, director.saturation))
    parts.readiness.set(False)
    changes = Changes()
    async with contextlib.AsyncExitStack() as stack:
        await _Background(config, pools, observer, changes, parts, rng).start(stack)
        handlers = (
            AccessLog(director, observer).handler(),
            EndpointDiscovery(pools, changes, observer).handler(),
        )
        yield App(EndpointPicker(director), handlers)


def override(config: EndpointPickerConfig, flags: Mapping[str, object]) -> EndpointPickerConfig:
    """Put `--endpoint` and `--redis` into the configuration."""
    endpoints, redis = flags.get("endpoint"), flags.get("redis")
    if isinstance(endpoints, Sequence) and endpoints:
        config = override_endpoints(config, [str(endpoint) for endpoint in endpoints])
    if isinstance(redis, str):
        config = msgspec.structs.replace(config, redis=Redis(url=redis))
    return config


def _session() -> aiohttp.ClientSession:
    # One connection for each server is enough and no bound on their number; DNS is asked elsewhere.
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=1)
    return aiohttp.ClientSession(connector=connector, headers={"accept": "text/plain; version=0.0.4"})


main = command(
    "epp",
    EndpointPickerConfig,
    build,
    options=(
        click.Option(
            ["--endpoint"],
            multiple=True,
            metavar="POOL=URL",
            help="Replaces the pool's endpoints; repeatable.",
        ),
        click.Option(["--redis"], metavar="URL", help="Where replicas share their state."),
    ),
    override=override,
)
