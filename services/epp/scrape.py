"""Ask every server for its metrics, each on its own schedule: one that hangs delays no other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import aiohttp
import structlog

from services.epp.config import Scrape
from services.epp.endpoints import Metrics
from services.epp.pool import Pool
from services.epp.records import Observer, ScrapeError
from services.epp.state import Turns
from services.epp.vllm import MetricsError, parse

MAX_BYTES = 8 * 1024 * 1024
"""Of one answer; vLLM's is some 100 KB. A wrong URL must not fill the memory."""


class ScrapeFailed(Exception):
    """A scrape gave nothing; `kind` is the label to count it under."""

    def __init__(self, kind: ScrapeError, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class Scraper:
    """Scrapes the members of one pool for as long as they are members."""

    def __init__(
        self,
        pool: Pool,
        settings: Scrape,
        session: aiohttp.ClientSession,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        observer: Observer,
        looked: Callable[[], None],
        turns: Turns,
    ) -> None:
        """Ask those whose turn `turns` says it is; other replicas may ask the rest, and tell."""
        self._pool = pool
        self._settings = settings
        self._session = session
        self._clock = clock
        self._rng = rng
        self._observer = observer
        self._looked = looked
        self._turns = turns
        self._watched: set[str] = set()
        self._log = structlog.get_logger().bind(pool=pool.name)

    async def run(self) -> None:
        """Watch whoever is a member, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                for server in self._pool.snapshot.servers:
                    if server.address not in self._watched:
                        self._watched.add(server.address)
                        group.create_task(self._watch(server.address))
                await asyncio.sleep(self._settings.interval_seconds)

    async def _watch(self, address: str) -> None:
        while self._pool.get(address) is not None:
            took = 0.0
            if self._turns.turn(address, self._settings.interval_seconds):
                took = await self._once(address)
                self._looked()
            # A tenth of jitter keeps a thousand servers from being asked in the same millisecond.
            pause = self._settings.interval_seconds * self._rng.uniform(0.9, 1.1) - took
            await asyncio.sleep(max(0.0, pause))
        self._watched.discard(address)

    async def _once(self, address: str) -> float:
        """Scrape one server, tell the pool, and return how long it took."""
        began = self._clock()
        try:
            metrics = await self._scrape(address, began)
        except ScrapeFailed as error:
            self._failed(address, error)
        else:
            self._succeeded(address, metrics)
            self._observer.scraped(self._pool.name, self._clock() - began)
        return self._clock() - began

    async def _scrape(self, address: str, began: float) -> Metrics:
        settings = self._settings
        url = f"{settings.scheme}://{address}{settings.path}"
        try:
            async with asyncio.timeout(settings.timeout_seconds), self._get(url) as answer:
                if answer.status != 200:  # noqa: PLR2004 - OK
                    raise ScrapeFailed(ScrapeError.STATUS, f"status {answer.status}")
                return parse(await _read(answer), began)
        except TimeoutError as error:
            raise ScrapeFailed(ScrapeError.TIMEOUT, "no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ScrapeFailed(ScrapeError.CONNECTION, str(error) or type(error).__name__) from error
        except MetricsError as error:
            raise ScrapeFailed(ScrapeError.FORMAT, str(error)) from error

    def _get(self, url: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        # A server has no say in who else is asked.
        return self._session.get(url, allow_redirects=False)

    def _succeeded(self, address: str, metrics: Metrics) -> None:
        before = self._pool.get(address)
        self._pool.observe(address, metrics)
        self._pool.listener.observed(address, metrics)
        if before is not None and not before.ready:
            self._log.info("server is ready", endpoint=address)

    def _failed(self, address: str, error: ScrapeFailed) -> None:
        before = self._pool.get(address)
        self._pool.miss(address)
        self._pool.listener.missed(address)
        self._observer.scrape_failed(self._pool.name, error.kind)
        after = self._pool.get(address)
        if before is not None and after is not None and before.ready and not after.ready:
            self._log.warning("server is not ready", endpoint=address, error=str(error))


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > MAX_BYTES:
            raise ScrapeFailed(ScrapeError.FORMAT, f"more than {MAX_BYTES} bytes")
    return bytes(body)
