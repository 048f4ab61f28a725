"""Between a picker and Redis: passes bytes on, late or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.epp.stack import LOOPBACK


@dataclass(slots=True)
class Proxy:
    """A line to one port."""

    target: int
    port: int = 0
    delay: float = 0.0
    """Seconds for each piece on its way there."""
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """Not set: bytes stay where they are, as in a network that is cut; new connections seem to succeed."""
    taken: int = 0
    """Connections."""

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(LOOPBACK, self.target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, back, self.delay))
                    group.create_task(self._pump(there, writer, 0.0))
            finally:
                back.close()
        writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay: float) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await asyncio.sleep(delay)
                await self.open.wait()
                sink.write(data)
                await sink.drain()
        sink.close()


@contextlib.asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """Run a line that is open."""
    line = Proxy(target)
    line.open.set()
    server = await asyncio.start_server(line.serve, LOOPBACK, 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        line.open.set()
        server.close()
