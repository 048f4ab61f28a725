"""Sends one answer's body the way its request asked for: at once, cut into pieces, broken off, or stalled."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable, Mapping

from aiohttp import web

from tools.model_server.faults import Fault, Kind, Steering

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""`SO_LINGER` with no time: the kernel sends RST instead of FIN."""


class Wire:
    """The body of one answer."""

    def __init__(
        self,
        request: web.Request,
        steering: Steering,
        headers: Mapping[str, str],
        *,
        length: int | None = None,
    ) -> None:
        self._request = request
        self._fault = steering.fault
        self._cut = steering.chunk_bytes
        self._left = steering.fault.after if steering.fault else 0
        self._uncut = bytearray()
        self.response = web.StreamResponse(headers=headers)
        if length is not None and not self._cut:
            self.response.content_length = length

    async def open(self) -> None:
        """Send the head, unless a fault comes before it."""
        if self._fault is None or self._left:
            await self._prepare()

    async def send(self, events: Iterable[bytes]) -> None:
        """Send `events`, as far as they fill cuts; a fault strikes when its amount has been sent."""
        if self._fault is None:
            await self._write(b"".join(events))
            return
        data = self._allowed(self._fault, events)
        if data or self._left:
            await self._write(data)
        if not self._left:
            await self._strike(self._fault)

    async def finish(self) -> web.StreamResponse:
        """End the body."""
        await self._flush()
        await self.response.write_eof()
        return self.response

    def _allowed(self, fault: Fault, events: Iterable[bytes]) -> bytes:
        """Take what may be sent before `fault` strikes, and count it."""
        if fault.events:
            some = [event for event, _ in zip(events, range(self._left), strict=False)]
            self._left -= len(some)
            return b"".join(some)
        data = b"".join(events)[: self._left]
        self._left -= len(data)
        return data

    async def _write(self, data: bytes) -> None:
        await self._prepare()
        if not self._cut:
            if data:
                await self.response.write(data)
            return
        self._uncut += data
        while len(self._uncut) >= self._cut:
            await self.response.write(bytes(self._uncut[: self._cut]))
            del self._uncut[: self._cut]
            await asyncio.sleep(0)  # lets the loop send this piece before the next

    async def _flush(self) -> None:
        await self._prepare()
        if self._uncut:
            await self.response.write(bytes(self._uncut))
            self._uncut.clear()

    async def _prepare(self) -> None:
        if not self.response.prepared:
            await self.response.prepare(self._request)

    async def _strike(self, fault: Fault) -> None:
        if fault.after:
            await self._flush()
        if fault.kind is Kind.STALL:
            await asyncio.get_running_loop().create_future()  # until the client leaves
        if self._request.transport is not None:
            reset(self._request.transport)
        raise ConnectionResetError("a fault was asked for")


def reset(transport: asyncio.WriteTransport) -> None:
    """End a connection with a TCP reset."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
