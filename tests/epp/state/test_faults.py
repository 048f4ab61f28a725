"""Whatever happens to Redis: decisions go on, people can see it, and after it all replicas agree again."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from services.epp.records import Ended, EndOutcome, Release
from services.epp.state.lease import stream_key
from services.epp.state.wire import FIELD, Batch, encode
from tests.epp.stack import METRICS, FakeServer, fake_server, until
from tests.epp.state.proxy import proxy
from tests.epp.state.test_app import Running, running
from tests.epp.state.world import Valkey, valkey
from tests.epp.world import digest, text

QUICK = {"lease_seconds": 1.0, "timeout_seconds": 0.4, "warm_start_seconds": 0.5}
STREAM = stream_key("igw", "llama")


@pytest.fixture
async def redis() -> AsyncIterator[Valkey]:
    async with valkey() as server:
        yield server


@pytest.fixture
async def llm() -> AsyncIterator[FakeServer]:
    async with fake_server() as server:
        # Never less than is counted here: else requests of some seconds ago would be taken for lost.
        server.metrics = METRICS.replace("running 0.0", "running 100.0")
        yield server


@contextlib.asynccontextmanager
async def two(redis: Valkey, llm: FakeServer, *, ours: str = "") -> AsyncIterator[tuple[Running, Running]]:
    """Run two pickers that know of each other; `ours` is the first one's own line to Redis."""
    async with (
        running(ours or redis.url, llm.address, **QUICK) as one,
        running(redis.url, llm.address, **QUICK) as other,
    ):
        await until(lambda: one.replicas() == other.replicas() == 2)
        yield one, other


def up(picker: Running) -> bool:
    return picker.parts.details["shared-state"].ready


def known(picker: Running, seed: int) -> bool:
    """Whether a prompt is known to be somewhere."""
    return bool(picker.pool.prefixes.match(digest(text(500, seed)).blocks))


async def agree(one: Running, other: Running, seed: int) -> None:
    """Send a new prompt from each, and wait until both know both and count the same."""
    one.pick(digest(text(500, seed)))
    other.pick(digest(text(500, seed + 1)))
    await until(lambda: known(one, seed + 1) and known(other, seed))
    await until(lambda: one.requests() == other.requests())


async def restarted_empty(redis: Valkey) -> None:
    await redis.stop()
    await redis.start()


async def emptied(redis: Valkey) -> None:
    async with redis.client() as client:
        await client.flushall()


async def crashed_connections(redis: Valkey) -> None:
    async with redis.client() as client:
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal")


@pytest.mark.parametrize("fault", [restarted_empty, emptied, crashed_connections])
async def test_what_is_over_at_once_leaves_no_trace(redis, llm, fault: Callable[[Valkey], Awaitable[None]]):
    """Load and prefixes are shared again, with what was in flight before."""
    async with two(redis, llm) as (ours, theirs):
        await agree(ours, theirs, 10)
        await fault(redis)
        await agree(ours, theirs, 20)

        assert ours.requests() == theirs.requests() == 4
        await until(lambda: up(ours) and up(theirs))


async def test_a_redis_that_stopped_is_waited_for_and_decisions_go_on(redis, llm):
    """What was sent meanwhile is told later; what others had in flight does not count without news of them."""
    async with two(redis, llm) as (ours, theirs):
        theirs.pick(digest(text(500, 1)))
        await until(lambda: ours.requests() == 1)
        with capture_logs() as logs:
            await redis.stop()
            await until(lambda: not up(ours) and not up(theirs))
            ours.pick(digest(text(500, 2)))
            await until(lambda: ours.requests() == 1 and ours.replicas() == 1)
            down = ours.parts.registry.get_sample_value("epp_redis_up")
            await redis.start()
            await until(lambda: up(ours) and up(theirs))
        await until(lambda: known(theirs, 2) and ours.requests() == theirs.requests() == 2)

    assert down == 0
    assert (ours.parts.registry.get_sample_value("epp_state_degraded_seconds_total") or 0.0) > 0
    assert [log["event"] for log in logs].count("redis_unreachable") == 2, "once for each picker"
    assert [log["event"] for log in logs].count("redis_reached") == 2


@contextlib.asynccontextmanager
async def full(redis: Valkey) -> AsyncIterator[None]:
    """Refuse writes for lack of memory."""
    async with redis.client() as client:
        await client.config_set("maxmemory", "1")
        yield
        await client.config_set("maxmemory", "0")


@contextlib.asynccontextmanager
async def read_only(redis: Valkey) -> AsyncIterator[None]:
    """Refuse writes as a replica whose primary is gone."""
    async with redis.client() as client:
        await client.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        await client.execute_command("REPLICAOF", "NO", "ONE")


@contextlib.asynccontextmanager
async def locked(redis: Valkey) -> AsyncIterator[None]:
    """Refuse everybody who has no password."""
    async with redis.client() as client:
        await client.config_set("requirepass", "secret")
        await client.execute_command("AUTH", "secret")
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        yield
        await client.config_set("requirepass", "")


@contextlib.asynccontextmanager
async def hanging(redis: Valkey) -> AsyncIterator[None]:
    """Answer nobody, with connections that stay open."""
    assert redis.process is not None
    redis.process.send_signal(signal.SIGSTOP)
    yield
    redis.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("fault", [full, read_only, locked, hanging])
async def test_a_redis_that_refuses_is_told_of_and_gone_round(redis, llm, fault):
    """Decisions go on from what is known here, and all is shared again after."""
    async with two(redis, llm) as (ours, theirs):
        async with fault(redis):
            await until(lambda: not up(ours) and not up(theirs))
            ours.pick(digest(text(500, 1)))
            await until(lambda: ours.replicas() == 1)
            assert known(ours, 1)
            assert ours.requests() == 1
        await until(lambda: known(theirs, 1) and ours.requests() == theirs.requests() == 1)
        await agree(ours, theirs, 10)


async def test_one_that_is_cut_off_stands_alone_until_it_is_not(redis, llm):
    """The others drop its load, and nothing of either side is lost."""
    async with proxy(redis.port) as line, two(redis, llm, ours=line.url) as (ours, theirs):
        ours.pick(digest(text(500, 1)))
        await until(lambda: theirs.requests() == 1)
        line.open.clear()
        await until(lambda: theirs.replicas() == 1 and theirs.requests() == 0)
        await until(lambda: not up(ours))
        ours.pick(digest(text(500, 2)))
        theirs.pick(digest(text(500, 3)))
        assert up(theirs)
        assert not known(theirs, 2)
        line.open.set()
        await until(lambda: known(ours, 3) and known(theirs, 2))
        await until(lambda: ours.requests() == theirs.requests() == 3)


async def test_a_slow_redis_makes_news_late_and_nothing_else(redis, llm):
    """As long as it answers within the timeout."""
    async with proxy(redis.port) as line:
        line.delay = 0.05
        async with two(redis, llm, ours=line.url) as (ours, theirs):
            await agree(ours, theirs, 10)


async def test_a_picker_starts_cold_when_redis_does_not_answer(redis, llm):
    """After the time that is configured, and is told of what it missed later."""
    async with proxy(redis.port) as line, running(redis.url, llm.address, **QUICK) as theirs:
        theirs.pick(digest(text(500, 1)))
        line.open.clear()
        async with running(line.url, llm.address, **QUICK) as ours:
            assert not known(ours, 1)
            assert not up(ours)
            line.open.set()
            await until(lambda: known(ours, 1) and ours.requests() == 1)


async def test_what_nobody_understands_is_left_out(redis, llm):
    """Entries of another version, garbage, and entries without our field."""
    async with two(redis, llm) as (ours, theirs), redis.client() as client:
        for fields in (
            {FIELD: encode(Batch(99, "cccccccc", 1, whole=False))},
            {FIELD: b"garbage"},
            {b"other": b"field"},
        ):
            await client.xadd(STREAM, fields)
        await agree(ours, theirs, 10)
        await until(lambda: ours.value("epp_state_unreadable_total", reason="corrupt") == 2)

        assert ours.value("epp_state_unreadable_total", reason="unknown_version") == 1
        assert up(ours)


async def test_a_redis_that_lost_what_it_had_is_told_the_latest_again(redis, llm):
    """So that a picker that starts then is warm."""
    async with two(redis, llm) as (ours, theirs):
        await agree(ours, theirs, 10)
        await redis.stop()
        await until(lambda: not up(ours) and not up(theirs))
        await redis.start()
        await until(lambda: up(ours) and up(theirs))
        async with running(redis.url, llm.address, **QUICK) as new:
            await until(lambda: known(new, 10) and known(new, 11))


async def test_a_stream_whose_clock_is_behind_is_read_from_its_beginning(redis, llm):
    """As after a failover to a host that lives in the past; ids of a stream only ever grow."""
    async with redis.client() as client:
        await client.execute_command("XADD", STREAM, "99999999999999-1", "b", "the future")
        async with two(redis, llm) as (ours, theirs):
            await agree(ours, theirs, 10)
            await client.flushall()
            await agree(ours, theirs, 20)


async def test_an_end_that_came_while_redis_was_gone_is_told_after(redis, llm):
    """Whoever picked would count the request until its server is seen to have less."""
    async with two(redis, llm) as (ours, theirs):
        reservation = ours.pick(digest(text(500, 1)))
        await redis.stop()
        await until(lambda: not up(ours) and not up(theirs) and theirs.replicas() == 1)
        end = Ended("llama", reservation.id, EndOutcome.COMPLETED, status=200, seconds=0.1)
        assert not theirs.director.finish(end, Release.ACCESS_LOG)
        assert ours.requests() == 1
        await redis.start()
        await until(lambda: ours.requests() == 0)

    assert ours.value("epp_releases_total", by="access_log") == 1


async def test_a_bug_in_the_exchange_makes_a_picker_stand_alone(redis, llm, monkeypatch):
    """Others may have the same news to break over: it goes on to take requests."""
    async with two(redis, llm) as (ours, theirs):
        theirs.pick(digest(text(500, 1)))
        await until(lambda: ours.requests() == 1)

        def bug(data: bytes, age: float) -> int:
            raise RuntimeError("a bug")

        monkeypatch.setattr(ours.shared.shares["llama"].inbox, "take", bug)
        await until(lambda: ours.requests() == 0 and ours.replicas() == 1)
        assert not up(ours)
        assert ours.parts.readiness.ready
        ours.pick(digest(text(500, 2)))
        await until(lambda: theirs.replicas() == 1)
