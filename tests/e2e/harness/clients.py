"""HTTP clients that decide when every piece leaves: HTTP/1.1 by h11, HTTP/2 with prior knowledge by h2.

Pieces of a body are bytes, or seconds to wait before the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import h11

Pieces = Sequence[bytes | float]
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got. `complete` is False when the answer was cut: no proper end, or fewer bytes than said."""

    status: int
    headers: Pairs = ()
    body: bytes = b""
    trailers: Pairs = ()
    complete: bool = True

    def header(self, name: str) -> str | None:
        """Return the first value of `name`."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to be sent."""

    path: str
    pieces: Pieces = ()
    headers: Pairs = ()
    trailers: Pairs = ()
    method: str = "POST"
    chunked: bool = False
    """Send without a content-length (HTTP/1.1 only)."""

    @property
    def length(self) -> int:
        return sum(len(piece) for piece in self.pieces if isinstance(piece, bytes))


async def http1(port: int, ask: Ask) -> Answer:
    """Send `ask` over HTTP/1.1 and return the answer; the upload goes on while the answer is read."""
    async with _connected(port) as (reader, writer):
        connection = h11.Connection(h11.CLIENT)
        async with asyncio.TaskGroup() as group:
            upload = group.create_task(_upload1(connection, writer, ask))
            answer = await _answer1(connection, reader)
            upload.cancel()
        return answer


async def http2(port: int, ask: Ask) -> Answer:
    """Send `ask` over HTTP/2 and return the answer; the upload obeys the windows and ends with the stream."""
    async with _connected(port) as (reader, writer):
        stream = _Stream(reader, writer)
        stream.begin(ask)
        async with asyncio.TaskGroup() as group:
            upload = group.create_task(stream.upload(ask))
            answer = await stream.answer()
            upload.cancel()
        return answer


@contextlib.asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _upload1(connection: h11.Connection, writer: asyncio.StreamWriter, ask: Ask) -> None:
    framing = (
        ("transfer-encoding", "chunked")
        if ask.chunked or ask.trailers
        else ("content-length", str(ask.length))
    )
    framing_headers = [framing] if ask.pieces or ask.trailers else []
    headers = [("host", "test"), *ask.headers, *framing_headers]
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    head = h11.Request(method=ask.method, target=ask.path, headers=raw)
    writer.write(_sent(connection, head))
    for piece in ask.pieces:
        if isinstance(piece, bytes):
            writer.write(_sent(connection, h11.Data(piece)))
            await writer.drain()
        else:
            await asyncio.sleep(piece)
    writer.write(_sent(connection, h11.EndOfMessage(headers=list(ask.trailers))))
    await writer.drain()


def _sent(connection: h11.Connection, event: h11.Event) -> bytes:
    return connection.send(event) or b""


async def _answer1(connection: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    headers: Pairs = ()
    status, body = 0, bytearray()
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return Answer(status, headers, bytes(body), complete=False)
        if event is h11.NEED_DATA:
            try:
                connection.receive_data(await reader.read(65536))
            except ConnectionError:
                return Answer(status, headers, bytes(body), complete=False)
        elif isinstance(event, h11.Response):
            status, headers = event.status_code, _text(event.headers)
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, headers, bytes(body), _text(event.headers))
        elif isinstance(event, h11.ConnectionClosed):
            return Answer(status, headers, bytes(body), complete=False)


class _Stream:
    """The only stream of an HTTP/2 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._connection = h2.connection.H2Connection(config)
        self._window = asyncio.Event()
        self._ended = self._cut = False
        self._head: Pairs = ()
        self._trailers: Pairs = ()
        self._body = bytearray()

    def begin(self, ask: Ask) -> None:
        self._connection.initiate_connection()
        pseudo = [(":method", ask.method), (":path", ask.path), (":scheme", "http"), (":authority", "test")]
        self._connection.send_headers(1, [*pseudo, *ask.headers], end_stream=not (ask.pieces or ask.trailers))
        self._flush()

    async def upload(self, ask: Ask) -> None:
        for piece in ask.pieces:
            if isinstance(piece, bytes):
                await self._send(piece)
            else:
                await asyncio.sleep(piece)
        if ask.trailers:
            self._connection.send_headers(1, list(ask.trailers), end_stream=True)
        elif ask.pieces:
            self._connection.end_stream(1)
        self._flush()

    async def _send(self, piece: bytes) -> None:
        while piece:
            room = min(
                self._connection.local_flow_control_window(1), self._connection.max_outbound_frame_size
            )
            if room:
                self._connection.send_data(1, piece[:room])
                piece = piece[room:]
                self._flush()
                await self._writer.drain()
            else:
                self._window.clear()
                await self._window.wait()

    async def answer(self) -> Answer:
        while not (self._ended or self._cut):
            data = await self._reader.read(65536)
            self._cut = not data
            for event in self._connection.receive_data(data):
                self._on(event)
            self._flush()
        status = next((int(value) for name, value in self._head if name == ":status"), 0)
        return Answer(status, self._head, bytes(self._body), self._trailers, complete=self._ended)

    def _on(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self._head = _text(event.headers)
            case h2.events.TrailersReceived():
                self._trailers = _text(event.headers)
            case h2.events.DataReceived():
                self._body += event.data
                if event.flow_controlled_length:
                    self._connection.acknowledge_received_data(event.flow_controlled_length, 1)
            case h2.events.StreamEnded():
                self._ended = True
            case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                self._cut = True
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._window.set()

    def _flush(self) -> None:
        self._writer.write(self._connection.data_to_send())


def _text(headers: Iterable[tuple[bytes | str, bytes | str]]) -> Pairs:
    def text(part: bytes | str) -> str:
        return part.decode("latin-1") if isinstance(part, bytes) else part

    return tuple((text(name), text(value)) for name, value in headers)
