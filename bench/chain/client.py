"""An HTTP/1.1 client so light that it is not what the benchmark measures."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"
SLICE_SECONDS = 60.0
"""No slice of the benchmark takes longer, whatever hangs."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds from sending one request to the first byte of the answer's body, and to its last."""

    first: float
    total: float


class Connection(asyncio.Protocol):
    """One kept-alive connection with one request under way. Reads an answer only as far as to know where it ends."""

    def __init__(self) -> None:
        self._answer = bytearray()
        self._body = 0  # where the body begins; 0 while the head is incomplete
        self._length: int | None = None
        self._sent = self._first = 0.0
        self._done: asyncio.Future[Sample] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to ask on."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request under way."""
        if self._done and not self._done.done():
            self._done.set_exception(exc or ConnectionError("Envoy closed the connection"))

    async def ask(self, request: bytes) -> Sample:
        """Send `request` and wait for the end of a 200; any other status is an error."""
        self._answer.clear()
        self._body, self._length, self._first = 0, None, 0.0
        self._done = asyncio.get_running_loop().create_future()
        self._sent = time.perf_counter()
        self._transport.write(request)
        return await self._done

    def data_received(self, data: bytes) -> None:
        """Collect the answer, noting when its body begins and ends."""
        self._answer += data
        if not self._body and not self._head():
            return
        if not self._first and len(self._answer) > self._body:
            self._first = time.perf_counter()
        if self._complete() and self._done and not self._done.done():
            self._finish(self._done)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _head(self) -> bool:
        end = self._answer.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._body = end + 4
        length = _LENGTH.search(self._answer, 0, end)
        self._length = int(length[1]) if length else None
        return True

    def _complete(self) -> bool:
        if self._length is None:
            return self._answer.endswith(_LAST_CHUNK)
        return len(self._answer) >= self._body + self._length

    def _finish(self, done: asyncio.Future[Sample]) -> None:
        if self._answer.startswith(b"HTTP/1.1 200 "):
            done.set_result(Sample(self._first - self._sent, time.perf_counter() - self._sent))
        else:
            done.set_exception(RuntimeError(f"not a 200: {bytes(self._answer[:600])!r}"))


async def run(port: int, requests: Iterator[bytes], *, count: int, concurrency: int) -> list[Sample]:
    """Send `count` requests over `concurrency` connections, each of which answered one more before that."""
    samples: list[Sample] = []

    async def worker(connection: Connection, share: int) -> None:
        for _ in range(share):
            samples.append(await connection.ask(next(requests)))  # noqa: PERF401 - others append meanwhile

    async with asyncio.timeout(SLICE_SECONDS), _connections(port, concurrency) as connections:
        await asyncio.gather(*(connection.ask(next(requests)) for connection in connections))
        await asyncio.gather(*(worker(connection, count // concurrency) for connection in connections))
    return samples


@contextlib.asynccontextmanager
async def _connections(port: int, count: int) -> AsyncIterator[list[Connection]]:
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(Connection, "127.0.0.1", port) for _ in range(count)]
    try:
        yield [connection for _, connection in opened]
    finally:
        for _, connection in opened:
            connection.close()
