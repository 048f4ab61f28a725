"""Tells what the KV cache holds as vLLM does: msgpack batches over ZeroMQ, numbered, the last ones kept for replay.

Format: `vllm/distributed/kv_events.py` of vLLM 0.11: `[ts, events, data_parallel_rank]`, events as tagged arrays.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator

import msgspec
import zmq
import zmq.asyncio

from services.extproc.background import background
from tools.model_server.engine import Request
from tools.model_server.kv_cache import AllBlocksCleared, BlocksRemoved, BlocksStored, KvEvent

REPLAYED = 10_000
"""Batches kept for replay, vLLM's default (`buffer_steps`)."""
SEQUENCE = 8  # bytes
END = (-1).to_bytes(SEQUENCE, "big", signed=True)


class _Event(msgspec.Struct, array_like=True, tag=True, omit_defaults=True):
    """Base of the events."""


class BlockStored(_Event):
    """vLLM's event of that name, and so are the next two."""

    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None = None
    medium: str | None = "GPU"
    lora_name: str | None = None
    extra_keys: list[list[str] | None] | None = None


class BlockRemoved(_Event):
    """Evicted blocks."""

    block_hashes: list[int]
    medium: str | None = "GPU"


class AllCleared(_Event, tag="AllBlocksCleared"):
    """An empty cache."""


class KvEventBatch(msgspec.Struct, array_like=True):
    """What one message holds."""

    ts: float
    events: list[BlockStored | BlockRemoved | AllCleared]
    data_parallel_rank: int | None = 0


class Publisher:
    """Gathers the events of one turn of the event loop, as an engine those of one step, and publishes them."""

    def __init__(self, block_size: int, *, topic: str = "") -> None:
        self.port = 0
        """Of the publisher, once it is open."""
        self.replay_port = 0
        self._block_size = block_size
        self._topic = topic.encode()
        self._pending: list[BlockStored | BlockRemoved | AllCleared] = []
        self._next = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=REPLAYED)
        self._socket: zmq.Socket[bytes] | None = None

    def note(self, event: KvEvent, request: Request | None) -> None:
        """Take an event of the cache; `request` is the one whose blocks are stored."""
        if not self._pending and self._socket is not None:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pending.append(self._event(event, request))

    def restart(self) -> None:
        """Begin again with number 0, as a new process does."""
        self._pending.clear()
        self._kept.clear()
        self._next = 0

    @contextlib.asynccontextmanager
    async def open(self, endpoint: str, replay: str) -> AsyncIterator[None]:
        """Publish at `endpoint` and answer replays at `replay`, if that is not empty, while the block runs."""
        with zmq.Context() as context, context.socket(zmq.PUB) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            self.port = _bind(socket, endpoint)
            self._socket = socket
            async with _replaying(self, replay):
                yield
            self._socket = None

    async def replay(self, socket: zmq.asyncio.Socket) -> None:
        """Answer requests for replays, for ever."""
        while True:
            client, delimiter, start = await socket.recv_multipart()
            for number, payload in list(self._kept):
                if number >= int.from_bytes(start, "big"):
                    await socket.send_multipart(
                        [client, delimiter, number.to_bytes(SEQUENCE, "big"), payload]
                    )
            await socket.send_multipart([client, delimiter, END, b""])

    def _flush(self) -> None:
        events, self._pending = self._pending, []
        if not events or self._socket is None:
            return
        payload = msgspec.msgpack.encode(KvEventBatch(time.time(), events))
        self._kept.append((self._next, payload))
        self._socket.send_multipart([self._topic, self._next.to_bytes(SEQUENCE, "big"), payload])
        self._next += 1

    def _event(self, event: KvEvent, request: Request | None) -> BlockStored | BlockRemoved | AllCleared:
        match event:
            case AllBlocksCleared():
                return AllCleared()
            case BlocksRemoved(hashes):
                return BlockRemoved(list(hashes))
            case BlocksStored(hashes, parent, first):
                return self._stored(hashes, parent, first, request)

    def _stored(
        self, hashes: tuple[int, ...], parent: int | None, first: int, request: Request | None
    ) -> BlockStored:
        size = self._block_size
        ids = list(request.tokens[first * size : (first + len(hashes)) * size]) if request else []
        adapter, salt = (request.adapter, request.salt) if request else ("", "")
        extra: list[list[str] | None] = [[adapter] if adapter else None for _ in hashes]
        if salt and not first:
            extra[0] = [*(extra[0] or []), salt]
        return BlockStored(
            list(hashes),
            parent,
            ids,
            size,
            lora_id=1 if adapter else None,
            lora_name=adapter or None,
            extra_keys=extra if any(extra) else None,
        )


@contextlib.asynccontextmanager
async def _replaying(publisher: Publisher, endpoint: str) -> AsyncIterator[None]:
    if not endpoint:
        yield
        return
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        publisher.replay_port = _bind(socket, endpoint)
        async with background(publisher.replay(socket)):
            yield


def _bind(socket: zmq.Socket[bytes] | zmq.asyncio.Socket, endpoint: str) -> int:
    socket.bind(endpoint)
    return int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
