"""A model server's place, taken by one that says what the test puts in its mouth, in the test's own pieces."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import ClientConnectionError, web

METRICS = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
_LARGEST = 64 * 1024 * 1024


@dataclass(slots=True)
class Model:
    """A running server: what it was sent, and what it says next."""

    port: int = 0
    bodies: list[bytes] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Sequence[bytes] = (b"{}",)
    cut_off: int = 0
    """Answers that the client did not want to hear to their end."""

    def say(self, pieces: Sequence[bytes], headers: Mapping[str, str]) -> None:
        """Answer so from now on, each piece a write of its own; forget what was asked."""
        self.pieces, self.headers = pieces, headers
        self.bodies.clear()
        self.cut_off = 0


@contextlib.asynccontextmanager
async def model_running() -> AsyncIterator[Model]:
    """Run a server on a free port until the block ends."""
    model = Model()

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=METRICS)

    async def answer(request: web.Request) -> web.StreamResponse:
        model.bodies.append(await request.read())
        response = web.StreamResponse(headers=dict(model.headers))
        if "content-type" not in model.headers:
            response.headers["content-type"] = ""
        await response.prepare(request)
        try:
            for piece in model.pieces:
                await response.write(piece)
        except (ConnectionError, ClientConnectionError):  # the second while it waits for room
            model.cut_off += 1
            raise
        return response

    # Bodies arrive as they were sent: aiohttp would unpack them.
    app = web.Application(client_max_size=_LARGEST)
    app.router.add_get("/metrics", metrics)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, auto_decompress=False, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    model.port = runner.addresses[0][1]
    try:
        yield model
    finally:
        await runner.cleanup()
