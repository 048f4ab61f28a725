"""A TCP proxy that can be slow or stall: what a network does to Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

Mode = Literal["open", "slow", "stalled"]
CHUNK = 65_536
LOOK = 0.02


class Proxy:
    """Passes bytes between its own port and `target`.

    slow: `delay` seconds later in each direction. stalled: connections stay open, and new ones seem to succeed, but
    nothing is read.
    """

    def __init__(self, target: int, *, delay: float = 0.5) -> None:
        self._target = target
        self._delay = delay
        self._mode: Mode = "open"
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    def become(self, mode: Mode) -> None:
        """Behave so from now on."""
        self._mode = mode
        if mode == "stalled":
            self._flows.clear()
        else:
            self._flows.set()

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[None]:
        """Listen while the block runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            self.become("open")
            for writer in self._writers:
                writer.transport.abort()
            while self._writers:  # noqa: ASYNC110 - each connection ends by itself
                await asyncio.sleep(LOOK)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, back}
        self._writers |= ends
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, back))
                group.create_task(self._pass(there, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one direction on; its bytes keep their order and their distance."""
        loop, late = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

        async def deliver() -> None:
            data = b"begins"
            while data:
                due, data = await late.get()
                await asyncio.sleep(due - loop.time())
                await self._flows.wait()
                writer.write(data)
            writer.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            data = b"begins"
            while data:
                await self._flows.wait()
                data = b""  # also where the connection broke
                with contextlib.suppress(OSError):
                    data = await reader.read(CHUNK)
                late.put_nowait((loop.time() + (self._delay if self._mode == "slow" else 0.0), data))
