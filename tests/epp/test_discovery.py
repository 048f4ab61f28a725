"""Names become members, and silence is no news."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from services.epp.config import Dns, PoolSpec
from services.epp.discovery import Discovery, resolve
from services.epp.pool import Pool
from services.epp.records import Silent
from services.extproc.background import background
from tests.epp.stack import until
from tests.epp.world import Clock


class Names:
    """A resolver whose answers a test sets."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers: dict[str, Sequence[str]] = answers
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror(f"no {host}")
        return self.answers[host]


class Failures(Silent):
    """Counts names that did not resolve."""

    count = 0

    def resolve_failed(self, pool: str) -> None:
        self.count += 1


@pytest.fixture
def pool() -> Pool:
    return Pool("p", clock=Clock())


def members(pool: Pool) -> list[str]:
    return [server.address for server in pool.snapshot.servers]


def discovery(spec: PoolSpec, pool: Pool, names: Names, changes: list[None] | None = None) -> Discovery:
    noted: list[None] = [] if changes is None else changes
    return Discovery(spec, pool, observer=Failures(), changed=lambda: noted.append(None), resolver=names)


async def test_addresses_are_members_without_being_asked_for(pool):
    """Only names need DNS."""
    names = Names()
    await discovery(PoolSpec(name="p", endpoints=["10.0.0.1:80", "http://[::1]:81"]), pool, names).round()

    assert members(pool) == ["10.0.0.1:80", "[::1]:81"]
    assert names.asked == []


async def test_a_name_stands_for_all_its_addresses(pool):
    """A and AAAA, as endpoints or as `dns`."""
    names = Names(a=["10.0.0.1", "2001:db8::1"], b=["10.0.0.2"])
    spec = PoolSpec(name="p", endpoints=["http://a:80"], dns=[Dns(host="b", port=90)])
    await discovery(spec, pool, names).round()

    assert members(pool) == ["10.0.0.1:80", "[2001:db8::1]:80", "10.0.0.2:90"]


async def test_changes_are_told_and_sameness_is_not(pool):
    """The proxy hears of membership, not of rounds."""
    names, changes = Names(a=["10.0.0.1"]), list[None]()
    watch = discovery(PoolSpec(name="p", endpoints=["a:80"]), pool, names, changes)
    await watch.round()
    await watch.round()
    assert len(changes) == 1

    names.answers["a"] = ["10.0.0.2"]
    await watch.round()
    assert members(pool) == ["10.0.0.2:80"]
    assert len(changes) == 2


async def test_a_name_that_stops_resolving_keeps_its_members(pool):
    """A DNS outage does not empty the pool."""
    names = Names(a=["10.0.0.1"], b=["10.0.0.2"])
    watch = discovery(PoolSpec(name="p", endpoints=["a:80", "b:80"]), pool, names)
    await watch.round()
    del names.answers["a"]
    await watch.round()

    assert members(pool) == ["10.0.0.1:80", "10.0.0.2:80"]


async def test_a_name_that_never_resolved_leaves_the_others(pool):
    """It is counted, and asked for again."""
    watch = discovery(PoolSpec(name="p", endpoints=["a:80", "b:80"]), pool, Names(b=["10.0.0.2"]))
    await watch.round()

    assert members(pool) == ["10.0.0.2:80"]
    assert pool.complete is False, "its member has not been scraped"


async def test_names_are_looked_up_again_and_addresses_are_not(pool):
    """A pool of addresses needs no loop."""
    await discovery(PoolSpec(name="p", endpoints=["10.0.0.1:80"]), pool, Names()).run()

    names = Names(a=["10.0.0.1"])
    spec = PoolSpec(name="p", endpoints=["a:80"], resolve_interval_seconds=0.001)
    async with background(discovery(spec, pool, names).run()):
        await until(lambda: len(names.asked) >= 3)


async def test_the_systems_resolver_is_asked():
    """`localhost` is everywhere."""
    assert set(await resolve("localhost")) & {"127.0.0.1", "::1"}
