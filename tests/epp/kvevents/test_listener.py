"""Over real sockets: the mock server's publisher, and one that writes what other versions of vLLM write."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import msgspec
import zmq
import zmq.asyncio

from services.epp.config import KvEvents
from services.epp.endpoints import Endpoint, Metrics
from services.epp.kvevents.listener import listening
from services.epp.kvevents.records import Passed, ReplayOutcome, Trouble
from services.epp.pool import Pool
from services.extproc.background import background
from services.openai.exact import exact_of
from tests.epp.stack import until
from tools.model_server.constants import DEMO
from tools.model_server.core import Settings
from tools.model_server.server import ModelServer, serve

ANY = "tcp://127.0.0.1:*"
TELLS = Settings(kv_events=ANY, kv_replay=ANY)


@dataclass(slots=True)
class Notes:
    troubles: Counter[Trouble] = field(default_factory=Counter)
    replays: Counter[ReplayOutcome] = field(default_factory=Counter)
    passed: Counter[Passed] = field(default_factory=Counter)

    def trouble(self, pool: str, kind: Trouble, count: int) -> None:
        self.troubles[kind] += count

    def replayed(self, pool: str, outcome: ReplayOutcome) -> None:
        self.replays[outcome] += 1

    def passed_over(self, pool: str, why: Passed, count: int) -> None:
        self.passed[why] += count


def endpoint(address: str, events: int, replay: int = 0) -> Endpoint:
    labels = {"inference-gateway/kv-events-port": str(events)}
    return Endpoint(address, labels | ({"inference-gateway/kv-replay-port": str(replay)} if replay else {}))


def member(server: ModelServer, *, replay: bool = True) -> Endpoint:
    assert server.core.events is not None
    return endpoint(
        f"127.0.0.1:{server.port}", server.core.events.port, server.core.events.replay_port if replay else 0
    )


@contextlib.asynccontextmanager
async def listener(*members: Endpoint, **settings) -> AsyncIterator[tuple[Pool, Notes]]:
    """Listen to `members` as slots 0, 1 and so on."""
    pool, notes = Pool("llama", clock=time.monotonic), Notes()
    pool.set_members(members)
    run = listening(pool, KvEvents(**{"check_seconds": 0.1} | settings), observer=notes, heard=lambda: None)
    async with background(run):
        yield pool, notes


async def complete(server: ModelServer, prompt: str, model: str = "llama-3.1-8b-instruct", **body) -> None:
    body = {"model": model, "prompt": prompt, "max_tokens": 4, **body}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/v1/completions", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def tokens(server: ModelServer, prompt: str) -> list[int]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/tokenize", json={"prompt": prompt}) as answer,
    ):
        return list((await answer.json())["tokens"])


def held(pool: Pool, ids: list[int], **others) -> dict[int, int]:
    """How many blocks of 64 bytes of a prompt each slot says it holds."""
    exact = exact_of(ids, block_size=16, prompt_bytes=4 * len(ids), **others)
    return dict(pool.exact.correct({}, exact, time.monotonic()))


def words(count: int, seed: int = 0) -> str:
    return " ".join(f"{(seed * 7919 + i) % 1000:03d}" for i in range(count))


async def test_what_a_server_computes_is_held_there_and_what_it_evicts_is_not():
    """By the server's own word, for adapters and salts too."""
    small = dataclasses.replace(DEMO, kv_blocks=64)
    settings = dataclasses.replace(TELLS, profile=small, adapters=("food",))
    async with serve(settings) as server, listener(member(server)) as (pool, _):
        await until(lambda: pool.exact.whole(0) is True)
        first = words(320)
        ids = await tokens(server, first)
        await complete(server, first)
        await until(lambda: held(pool, ids) == {0: 20})
        await complete(server, words(160), "food")
        await until(lambda: held(pool, ids[:160], adapter="food") == {0: 10})
        await complete(server, words(160), cache_salt="tenant")
        await until(lambda: held(pool, ids[:160], cache_salt="tenant") == {0: 10})
        for seed in range(1, 4):
            await complete(server, words(500, seed))
        await until(lambda: held(pool, ids) == {})
        await until(lambda: pool.exact.size(0) == server.core.loop.engine.kv.cached_blocks)
        assert pool.exact.whole(0)


async def test_who_comes_late_is_told_everything_by_replay():
    """A picker that restarts knows what the servers hold a moment later."""
    async with serve(TELLS) as server:
        await complete(server, words(200))
        ids = await tokens(server, words(200))
        async with listener(member(server)) as (pool, notes):
            await until(lambda: held(pool, ids) == {0: 12})
            assert pool.exact.whole(0)
            assert notes.replays == {ReplayOutcome.COMPLETE: 1}


async def test_without_a_replay_only_what_comes_is_known():
    """And the view says that it is partial."""
    async with serve(TELLS) as server:
        await complete(server, words(200))
        async with listener(member(server, replay=False)) as (pool, notes):
            await until(lambda: notes.replays.total() == 1)
            ids = await tokens(server, words(100, 5))
            while not held(pool, ids):  # the subscription may not have arrived yet
                await complete(server, words(100, 5) + words(20))
                server.core.loop.engine.kv.clear()
            assert notes.replays.keys() == {ReplayOutcome.NOWHERE}
            assert notes.troubles[Trouble.LOST] == 1


async def test_a_restarted_server_holds_nothing_but_what_it_tells():
    """Its numbers begin again."""
    async with serve(TELLS) as server, listener(member(server)) as (pool, notes):
        await until(lambda: pool.exact.whole(0) is True)
        await complete(server, words(200))
        await complete(server, words(100, 7))
        old, new = await tokens(server, words(200)), await tokens(server, words(100, 8))
        await until(lambda: held(pool, old) == {0: 12})
        server.core.forget_cache()
        await complete(server, words(100, 8))
        await until(lambda: held(pool, new) == {0: 6})
        assert held(pool, old) == {}
        assert notes.troubles[Trouble.RESTART] == 1
        assert pool.exact.whole(0)


async def test_a_restart_that_only_the_metrics_show_empties_the_view():
    """Without a replay nobody could ask the new process; what the old one held is gone."""
    async with (
        serve(TELLS) as server,
        listener(member(server, replay=False), endpoint("127.0.0.1:9", 9)) as (pool, _),
    ):
        address = f"127.0.0.1:{server.port}"
        pool.observe(address, Metrics(prompt_tokens_total=500))
        ids = await tokens(server, words(100))
        while not held(pool, ids):  # the subscription may not have arrived yet
            await complete(server, words(100) + words(20, 3))
            server.core.loop.engine.kv.clear()
        await complete(server, words(100))
        await until(lambda: held(pool, ids) != {})
        pool.observe(address, Metrics(prompt_tokens_total=0))
        await until(lambda: held(pool, ids) == {})
        assert pool.exact.whole(0) is False


async def test_a_member_that_leaves_is_listened_to_no_more():
    """And one that comes is."""
    async with serve(TELLS) as one, serve(TELLS) as two, listener(member(one)) as (pool, _):
        await until(lambda: pool.exact.whole(0) is True)
        await complete(one, words(100))
        await complete(two, words(100))
        ids = await tokens(one, words(100))
        await until(lambda: held(pool, ids) == {0: 6})
        pool.set_members([member(two)])
        assert held(pool, ids) == {}
        await until(lambda: held(pool, ids) == {0: 6})
        await complete(one, words(100, 3))
        assert pool.exact.size(0) == two.core.loop.engine.kv.cached_blocks


async def test_two_publishers_that_lose_messages_and_write_other_versions():
    """Maps instead of arrays, hashes as bytes, a topic, messages that a replay has to bring, and one that is broken."""
    ids, hashes = list(range(64)), [bytes([number]) * 32 for number in range(4)]

    def stored(first: int, count: int) -> dict[str, object]:
        return {
            "type": "BlockStored",
            "block_hashes": hashes[first : first + count],
            "parent_block_hash": hashes[first - 1] if first else None,
            "token_ids": ids[first * 16 : (first + count) * 16],
            "block_size": 16,
            "lora_id": None,
            "medium": "GPU",
            "lora_name": None,
        }

    payloads = [
        msgspec.msgpack.encode({"ts": 1.0, "events": [event], "data_parallel_rank": 0})
        for event in (stored(0, 1), stored(1, 2), {"type": "Future"}, stored(3, 1))
    ]
    with (
        zmq.asyncio.Context() as context,
        context.socket(zmq.XPUB) as out,
        context.socket(zmq.ROUTER) as replays,
    ):
        ports = [int(one.bind_to_random_port("tcp://127.0.0.1")) for one in (out, replays)]

        async def send(number: int, payload: bytes) -> None:
            await out.send_multipart([b"kv@llama", number.to_bytes(8, "big"), payload])

        async def answer(numbers: list[int]) -> int:
            client, _, start = await replays.recv_multipart()
            for number in numbers:
                frames = [client, b"", b"kv@llama", number.to_bytes(8, "big"), payloads[number]]
                await replays.send_multipart(frames)
            await replays.send_multipart([client, b"", b"\xff" * 8, b""])
            return int.from_bytes(start, "big")

        # A look for lost messages, asked for meanwhile, would bring the gap's before it is seen.
        async with listener(endpoint("127.0.0.1:9", *ports), topic="kv@", check_seconds=600.0) as (
            pool,
            notes,
        ):
            assert await answer([]) == 0
            assert await out.recv() == b"\1kv@"  # the subscription
            await send(0, payloads[0])
            await until(lambda: held(pool, [*ids, 0]) == {0: 1})
            await send(3, payloads[3])
            assert await answer([0, 1, 2]) == 0
            await until(lambda: held(pool, [*ids, 0]) == {0: 4} and bool(notes.troubles))
            assert pool.exact.whole(0)
            assert (notes.troubles, notes.passed) == ({Trouble.GAP: 1}, {Passed.UNKNOWN: 1})
            await send(4, b"\xc1")
            await until(lambda: notes.troubles[Trouble.FORMAT] == 1)
            assert held(pool, [*ids, 0]) == {}
            assert pool.exact.whole(0) is False
