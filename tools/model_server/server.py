"""The sockets of one model server, which faults can close and open again."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections.abc import AsyncIterator

from aiohttp import web

from services.extproc.background import background
from tools.model_server.admin import Admin
from tools.model_server.api import Api
from tools.model_server.core import Core, Settings
from tools.model_server.dialects import DIALECTS
from tools.model_server.faults import ServerFaults
from tools.model_server.service import Service
from tools.model_server.wire import reset

MAX_BODY = 64 << 20
"""Far above the gateway's own limit, so that it is the gateway's that is tested."""
KEEP_ALIVE = 3_600.0
"""Seconds. A server that closes idle connections races with a proxy that is about to use one."""
SHUTDOWN = 1.0
"""Seconds that open answers get at the end."""
ADMIN_ANSWER = 0.05
"""Seconds before refusing starts, so that the answer to the request that asked for it leaves."""


class ModelServer:
    """One mock vLLM on one port, and its admin API there and, if asked for, on a port of its own."""

    def __init__(self, settings: Settings, *, host: str, port: int) -> None:
        self.core = Core(settings)
        self.host = host
        self.port = port
        """The port in use once started, also when 0 was asked for."""
        self.admin_port = 0
        self._settings = settings
        self._site: web.TCPSite | None = None
        self._changed = asyncio.Event()
        self._ends = math.inf
        api = Api(self.core)
        admin = Admin(self.core, self.apply)
        self._runner = _runner(_application(api, admin, Service(self.core, api)))
        self._admin_runner = _runner(_admin_application(admin))

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://{self.host}:{self.port}"

    def apply(self, faults: ServerFaults) -> None:
        """Put `faults` in place of the ones there are."""
        self.core.misbehave(faults)
        lasts = faults.start_delay or faults.seconds
        self._ends = self.core.loop.clock() + lasts if lasts else math.inf
        self._changed.set()

    async def start(self, admin_port: int | None) -> None:
        """Listen, unless the start is delayed."""
        await self._runner.setup()
        if admin_port is not None:
            await self._admin_runner.setup()
            site = web.TCPSite(self._admin_runner, self.host, admin_port)
            await site.start()
            self.admin_port = site.port
        if self._settings.start_delay:
            self.apply(ServerFaults(start_delay=self._settings.start_delay))
        else:
            await self._open()

    async def tend(self) -> None:
        """Close and open the port as faults come and end."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._remaining())
            self._changed.clear()
            if self._remaining() == 0:
                self.apply(ServerFaults())
            faults = self.core.faults
            if faults.refuse or faults.start_delay:
                await self._close()
            elif self._site is None:
                await self._open()
            if faults.start_delay:
                self.core.forget_cache()

    async def stop(self) -> None:
        """Close everything."""
        await self._admin_runner.cleanup()
        await self._runner.cleanup()

    def _remaining(self) -> float | None:
        return None if self._ends == math.inf else max(0.0, self._ends - self.core.loop.clock())

    async def _open(self) -> None:
        self._site = web.TCPSite(self._runner, self.host, self.port, backlog=1024)
        await self._site.start()
        self.port = self._site.port

    async def _close(self) -> None:
        if self._site is None:
            return
        await asyncio.sleep(ADMIN_ANSWER)
        await self._site.stop()
        self._site = None
        if self._runner.server is not None:
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    reset(connection.transport)


@contextlib.asynccontextmanager
async def serve(
    settings: Settings, *, host: str = "127.0.0.1", port: int = 0, admin_port: int | None = None
) -> AsyncIterator[ModelServer]:
    """Run one server while the block runs. Port 0 is any free one."""
    server = ModelServer(settings, host=host, port=port)
    async with contextlib.AsyncExitStack() as stack:
        if server.core.events is not None:
            await stack.enter_async_context(server.core.events.open(settings.kv_events, settings.kv_replay))
        stack.push_async_callback(server.stop)
        await server.start(admin_port)
        async with background(server.tend()):
            yield server


def _runner(app: web.Application) -> web.AppRunner:
    # A handler ends with its client: that is what cancels a request in the engine.
    return web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=KEEP_ALIVE,
        shutdown_timeout=SHUTDOWN,
    )


def _application(api: Api, admin: Admin, service: Service) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY)
    app.add_routes([web.post(d.path, functools.partial(api.generate, d)) for d in DIALECTS])
    app.add_routes([web.post("/v1/embeddings", api.embed), *admin.routes(), *service.routes()])
    return app


def _admin_application(admin: Admin) -> web.Application:
    app = web.Application()
    app.add_routes(admin.routes())
    return app
