"""A model server's place, taken by a recorder: it keeps what it got and answers as the path says.

`/sha1` what arrived, as `sha1:length`; `/halves` 100 bytes and 20 ms later 400, with a content-length; `/events/N` N
server-sent events, two without N; `/bytes/N` N bytes; `/status/N` an empty answer of that status; `/trailers` a body
with trailers; `/echo/SEED` the body itself, cut and paced by a seeded random; `/model/SEED` what a model server would
say, events if the body asks for them, cut and paced alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field

import h11

PAUSE = 0.02
"""Seconds between the halves of a slow answer."""
HALVES = b"a" * 100 + b"b" * 400
EVENTS = (b'data: {"n": 1}\n\n', b"data: [DONE]\n\n")
TRAILERS = ((b"x-checksum", b"1"),)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it arrived."""

    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    trailers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """Return the first value of `name`."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(slots=True)
class Backend:
    """A running backend and all that it was sent."""

    port: int = 0
    requests: list[Recorded] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def backend_running() -> AsyncIterator[Backend]:
    """Run a backend on a free port until the block ends."""
    backend = Backend()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, h11.RemoteProtocolError, h11.LocalProtocolError):
            await _serve(backend, reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    backend.port = server.sockets[0].getsockname()[1]
    try:
        yield backend
    finally:
        server.close()


async def _serve(backend: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = h11.Connection(h11.SERVER)
    while (request := await _receive(connection, reader)) is not None:
        backend.requests.append(request)
        for event in _answer(request):
            if event is None:
                await asyncio.sleep(PAUSE)  # the pace of the answer is what the test is about
            elif data := connection.send(event):
                writer.write(data)
                await writer.drain()
        if connection.our_state is h11.MUST_CLOSE:
            return
        connection.start_next_cycle()


async def _receive(connection: h11.Connection, reader: asyncio.StreamReader) -> Recorded | None:
    head, body = None, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return Recorded(head.target.decode(), _text(head.headers), bytes(body), _text(event.headers))
        else:
            return None


def _answer(request: Recorded) -> list[h11.Event | None]:
    kind, _, argument = request.target.partition("?")[0].lstrip("/").partition("/")
    match kind:
        case "halves":
            return [
                _head(200, length=500),
                h11.Data(HALVES[:100]),
                None,
                h11.Data(HALVES[100:]),
                h11.EndOfMessage(),
            ]
        case "events":
            head = h11.Response(status_code=200, headers=[("content-type", "text/event-stream"), _CHUNKED])
            first: list[h11.Event | None] = [h11.Data(EVENTS[0]), None]
            return [head, *first * (int(argument or 2) - 1), h11.Data(EVENTS[1]), h11.EndOfMessage()]
        case "trailers":
            head = h11.Response(status_code=200, headers=[_CHUNKED])
            return [head, h11.Data(HALVES), h11.EndOfMessage(headers=list(TRAILERS))]
        case "status":
            return [_head(int(argument), length=0), h11.EndOfMessage()]
        case "bytes":
            return [_head(200, length=int(argument)), h11.Data(b"x" * int(argument)), h11.EndOfMessage()]
        case "echo":
            length = str(len(request.body))
            head = h11.Response(status_code=200, headers=[("content-length", length)])
            return [head, *_pieces(request.body, random.Random(argument)), h11.EndOfMessage()]
        case "model":
            return _model(request, random.Random(argument))
        case _:
            body = f"{hashlib.sha1(request.body).hexdigest()}:{len(request.body)}".encode()
            return [_head(200, length=len(body)), h11.Data(body), h11.EndOfMessage()]


def model_answer(model: str, served: str, *, stream: bool) -> bytes:
    """Return an answer that names `model` and, in its text, quotes the name under which it was `served`."""
    quote = f'"model":"{served}" é'
    shown = {"message": {"role": "assistant", "content": quote, "model": served}}
    whole = {"id": "1", "model": model, "choices": [shown], "served_by": served}
    if not stream:
        return json.dumps(whole, ensure_ascii=False, indent=1).encode()
    events = [{"model": model, "choices": [{"delta": {"content": quote}}], "n": n} for n in range(5)]
    events.append({"type": "message_start", "message": {"model": model, "content": []}})
    lines = [f"event: x\ndata: {json.dumps(event)}\n\n" for event in events]
    return "".join([": hello\r\n\r\n", *lines, "data: [DONE]\n\n"]).encode()


def _model(request: Recorded, rng: random.Random) -> list[h11.Event | None]:
    asked = json.loads(request.body)
    stream = bool(asked.get("stream"))
    kind = "text/event-stream" if stream else "application/json"
    head = h11.Response(status_code=200, headers=[("content-type", kind), _CHUNKED])
    body = model_answer(asked["model"], asked["model"], stream=stream)
    edges = sorted({0, len(body), *(rng.randrange(len(body)) for _ in range(6))})
    pieces: list[h11.Event | None] = []
    for start, end in itertools.pairwise(edges):
        pieces += [h11.Data(body[start:end]), *([None] if rng.random() < 0.3 else [])]
    return [head, *pieces, h11.EndOfMessage()]


def _pieces(body: bytes, rng: random.Random) -> Iterator[h11.Event | None]:
    while body:
        size = rng.choice([1, 100, 16_384, 65_536, 300_000])
        yield h11.Data(body[:size])
        if rng.random() < 0.3:  # some pauses, so that pieces meet and miss one another
            yield None
        body = body[size:]


_CHUNKED = ("transfer-encoding", "chunked")


def _head(status: int, *, length: int) -> h11.Response:
    return h11.Response(status_code=status, headers=[("content-length", str(length))])


def _text(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode(), value.decode("latin-1")) for name, value in headers)
