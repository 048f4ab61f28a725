"""What the mock publishes, byte for byte as vLLM 0.11 would."""

from __future__ import annotations

import asyncio

import msgspec
import zmq
import zmq.asyncio

from tests.model_server.conftest import ADAPTER, MODEL, client
from tests.tokens.vocabulary import text, write
from tools.model_server import tokens
from tools.model_server.core import Settings
from tools.model_server.server import serve

ANY = "tcp://127.0.0.1:*"
SETTINGS = Settings(model=MODEL, adapters=(ADAPTER,), kv_events=ANY, kv_replay=ANY, kv_topic="kv@mock")
PROMPT = "what does a server hold of this prompt, asks the picker" * 3
END = b"\xff" * 8


async def replayed(port, start):
    """Ask for a replay as vLLM's subscribers do; return the numbers and payloads."""
    with zmq.asyncio.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(f"tcp://127.0.0.1:{port}")
        await socket.send(start.to_bytes(8, "big"))
        number, payload = await socket.recv_multipart()
        return int.from_bytes(number, "big", signed=True), payload


async def test_blocks_are_told_with_their_tokens_their_parent_and_what_else_they_depend_on():
    """Positions and types as vLLM's structs have them; the first batch has number 0."""
    async with serve(SETTINGS) as server, client(server.url) as http:
        body = {"model": ADAPTER, "prompt": PROMPT, "max_tokens": 32, "cache_salt": "tenant"}
        answer = (await http.post("/v1/completions", json=body)).json()["choices"][0]["text"]
        assert server.core.events is not None
        number, payload = await replayed(server.core.events.replay_port, 0)
    ids = tokens.encode((PROMPT + answer).encode())
    stamp, events, rank = msgspec.msgpack.decode(payload)
    assert (number, type(stamp), rank) == (0, float, 0)
    tag, hashes, parent, told, size, lora_id, medium, lora_name, extra = events[0]
    assert (tag, parent, size, lora_id, medium, lora_name) == ("BlockStored", None, 16, 1, "GPU", ADAPTER)
    assert told == ids[: 16 * len(hashes)]
    assert extra == [[ADAPTER, "tenant"], *[[ADAPTER]] * (len(hashes) - 1)]


async def test_live_messages_have_topic_number_and_payload_and_clearing_is_told():
    """And a replay from a number that was not published yet is only its end."""
    async with serve(SETTINGS) as server, client(server.url) as http:
        events = server.core.events
        assert events is not None
        with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as socket:
            socket.subscribe(b"kv@")
            socket.connect(f"tcp://127.0.0.1:{events.port}")
            heard = asyncio.ensure_future(socket.recv_multipart())  # noqa: TID251 - pyzmq's own future
            while not heard.done():  # the subscription takes a moment to arrive
                await http.post("/reset_prefix_cache")
            topic, number, payload = await heard
        assert topic == b"kv@mock"
        assert msgspec.msgpack.decode(payload)[1][0] == ["AllBlocksCleared"]
        assert await replayed(events.replay_port, int.from_bytes(number, "big") + 10_000) == (-1, b"")


async def test_the_servers_own_vocabulary_counts_and_cuts(tmp_path):
    """`/tokenize`, usage and events are in the tokens of the file."""
    settings = Settings(model=MODEL, kv_events=ANY, kv_replay=ANY, tokenizer=str(write(tmp_path)))
    async with serve(settings) as server, client(server.url) as http:
        ids = (await http.post("/tokenize", json={"prompt": text(80)})).json()["tokens"]
        body = {"model": MODEL, "prompt": text(80), "max_tokens": 2}
        usage = (await http.post("/v1/completions", json=body)).json()["usage"]
        assert server.core.events is not None
        _, payload = await replayed(server.core.events.replay_port, 0)
    assert usage["prompt_tokens"] == len(ids)
    told = msgspec.msgpack.decode(payload)[1][0][3]
    assert told == ids[: len(ids) // 16 * 16]
