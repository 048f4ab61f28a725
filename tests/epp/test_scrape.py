"""Every server is asked on its own: what it says is taken in, and what it does not say is counted."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest

from services.epp.config import Scrape
from services.epp.endpoints import Endpoint
from services.epp.pool import Pool, PoolLimits
from services.epp.records import ScrapeError, Silent
from services.epp.scrape import MAX_BYTES, Scraper
from services.epp.state import Alone
from services.extproc.background import background
from tests.epp.stack import METRICS, FakeServer, fake_server, free_port, until
from tests.epp.world import Clock


class Recorder(Silent):
    """Counts scrapes."""

    def __init__(self) -> None:
        self.errors: Counter[ScrapeError] = Counter()
        self.good = 0

    def scrape_failed(self, pool: str, error: ScrapeError) -> None:
        self.errors[error] += 1

    def scraped(self, pool: str, seconds: float) -> None:
        self.good += 1


class Rig:
    """A pool with a scraper over it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.pool = Pool("p", clock=Clock(), limits=PoolLimits(misses=2))
        self.seen = Recorder()
        self.rounds = 0
        self.session = session

    def scraper(self, timeout_seconds: float = 0.2) -> Scraper:
        def looked() -> None:
            self.rounds += 1

        settings = Scrape(interval_seconds=0.002, timeout_seconds=timeout_seconds)
        return Scraper(
            self.pool,
            settings,
            self.session,
            clock=Clock(),
            rng=random.Random(1),
            observer=self.seen,
            looked=looked,
            turns=Alone(),
        )

    def members(self, *addresses: str) -> None:
        self.pool.set_members(Endpoint(address) for address in addresses)

    def ready(self, address: str) -> bool:
        server = self.pool.get(address)
        return server is not None and server.ready


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with aiohttp.ClientSession() as session:
        yield Rig(session)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as running:
        yield running


async def test_what_a_server_says_reaches_the_pool(rig, server):
    """Again and again."""
    server.metrics = METRICS.replace("waiting 0.0", "waiting 7.0")
    rig.members(server.address)
    async with background(rig.scraper().run()):
        await until(lambda: rig.seen.good >= 2)

    assert rig.pool.snapshot.servers[0].metrics.waiting == 7
    assert rig.ready(server.address)
    assert rig.rounds >= 2


async def test_a_server_that_hangs_delays_no_other(rig, server):
    """Its own scrapes time out; the others go on at their pace."""
    async with fake_server() as hung:
        hung.hold = asyncio.Event()
        rig.members(server.address, hung.address)
        async with background(rig.scraper(timeout_seconds=0.2).run()):
            await until(lambda: rig.seen.good >= 5)
            assert rig.seen.errors == {}
            await until(lambda: rig.seen.errors[ScrapeError.TIMEOUT] >= 1)

        assert rig.ready(server.address)
        assert not rig.ready(hung.address)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"status": 500}, ScrapeError.STATUS),
        ({"metrics": "nothing"}, ScrapeError.FORMAT),
        ({"metrics": "x" * (MAX_BYTES + 1)}, ScrapeError.FORMAT),
    ],
)
async def test_a_server_that_answers_wrongly_becomes_unready_and_ready_again(rig, server, change, error):
    """After too many failures in a row, and at once when it answers."""
    rig.members(server.address)
    async with background(rig.scraper(timeout_seconds=5).run()):
        await until(lambda: rig.ready(server.address))
        for name, value in change.items():
            setattr(server, name, value)
        await until(lambda: not rig.ready(server.address))
        server.status, server.metrics = 200, METRICS
        await until(lambda: rig.ready(server.address))

    assert rig.seen.errors[error] >= 2
    assert set(rig.seen.errors) == {error}


async def test_a_server_that_refuses_is_looked_at_all_the_same(rig):
    """The failure is recorded, so the picker can start without it."""
    rig.members(f"127.0.0.1:{free_port()}")
    async with background(rig.scraper().run()):
        await until(lambda: rig.pool.complete)

    assert rig.seen.errors[ScrapeError.CONNECTION] >= 1


async def test_newcomers_are_watched_and_leavers_are_left_alone(rig, server):
    """Membership decides who is asked; who comes back is asked again."""
    async with fake_server() as other:
        rig.members(server.address)
        async with background(rig.scraper().run()):
            await until(lambda: server.seen["metrics"] >= 1)
            rig.members(other.address)
            await until(lambda: other.seen["metrics"] >= 3)
            asked = server.seen["metrics"]
            await until(lambda: other.seen["metrics"] >= 10)
            assert server.seen["metrics"] <= asked + 1
            rig.members(server.address, other.address)
            await until(lambda: server.seen["metrics"] >= asked + 2)
