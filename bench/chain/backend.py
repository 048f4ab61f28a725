"""The cheapest model server that the chain accepts: `python -m bench.chain.backend PORT…`, on loopback.

It answers chat completions with fixed bytes, as JSON or as paced server-sent events, and its metrics say that it is
idle. The mock of `tools/model_server` would cost more than what is measured.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import cast

import uvloop

EVENTS = 20
EVENT_SECONDS = 0.002  # pace of the stream: without one, Envoy would see all events in a single read

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _answer(body: bytes, kind: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def _completion(piece: dict[str, object]) -> dict[str, object]:
    return {"id": "chatcmpl-1", "created": 1, "model": "llama-3.1-8b-instruct", **piece}


def _event(index: int) -> bytes:
    delta = {"index": 0, "delta": {"content": f" word{index}"}, "finish_reason": None}
    data = json.dumps(_completion({"object": "chat.completion.chunk", "choices": [delta]}))
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


USAGE = {"prompt_tokens": 500, "completion_tokens": EVENTS, "total_tokens": 500 + EVENTS}
MESSAGE = {"role": "assistant", "content": " ".join(f"word{index}" for index in range(EVENTS))}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
PLAIN = _answer(
    json.dumps(_completion({"object": "chat.completion", "choices": [CHOICE], "usage": USAGE})).encode(),
    "application/json",
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_EVENTS = [_event(index) for index in range(EVENTS)]
STREAM_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
METRICS = _answer(
    b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
    b'vllm:cache_config_info{block_size="16",num_gpu_blocks="100000"} 1\n'
    b'vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 1\n',
    "text/plain",
)


class Backend(asyncio.Protocol):
    """One connection: waits for a whole request and writes the answer."""

    def __init__(self) -> None:
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Collect the request and answer it when it is whole."""
        self._received += data
        if self._complete():
            streamed = b'"stream":true' in self._received[:4096]
            get = self._received.startswith(b"GET ")
            self._received.clear()
            if streamed:
                self._stream(0)
            else:
                self._transport.write(METRICS if get else PLAIN)

    def _complete(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        if length := _LENGTH.search(self._received, 0, end):
            return len(self._received) >= end + 4 + int(length[1])
        if self._received.startswith(b"GET "):
            return True
        return self._received.endswith(b"\r\n0\r\n\r\n")

    def _stream(self, index: int) -> None:
        if self._transport.is_closing():
            return
        if index == EVENTS:
            self._transport.write(STREAM_END)
            return
        self._transport.write(STREAM_EVENTS[index] if index else STREAM_HEAD + STREAM_EVENTS[0])
        asyncio.get_running_loop().call_later(EVENT_SECONDS, self._stream, index + 1)


async def serve(ports: list[int]) -> None:
    """Listen on every port until killed."""
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(Backend, "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve([int(port) for port in sys.argv[1:]]))
