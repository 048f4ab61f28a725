"""The admin API: faults on demand, and what reached the server."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from tools.model_server.core import Core
from tools.model_server.errors import ApiError
from tools.model_server.faults import ServerFaults, read_faults


class Admin:
    """Handlers over one `Core`. `apply` puts new faults into effect.

    | request | does |
    |---|---|
    | `POST /admin/faults` | replaces the server's faults (`faults.ServerFaults`) |
    | `DELETE /admin/faults` | ends them |
    | `GET /admin/state` | counts, load, cache, faults, the last requests |
    | `DELETE /admin/state` | forgets the requests |
    | `GET /admin/requests/ID` | one of the last requests, by `x-request-id` |
    """

    def __init__(self, core: Core, apply: Callable[[ServerFaults], None]) -> None:
        self._core = core
        self._apply = apply

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this module."""
        return [
            web.post("/admin/faults", self._set_faults),
            web.delete("/admin/faults", self._end_faults),
            web.get("/admin/state", self._state),
            web.delete("/admin/state", self._forget),
            web.get("/admin/requests/{id}", self._request),
        ]

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            faults = read_faults(await request.read())
        except ApiError as error:
            return _json({"error": error.message}, status=error.status)
        self._apply(faults)
        return _json(faults)

    async def _end_faults(self, _: web.Request) -> web.Response:
        self._apply(ServerFaults())
        return _json(ServerFaults())

    async def _state(self, _: web.Request) -> web.Response:
        core, engine = self._core, self._core.loop.engine
        return _json(
            {
                "name": core.name,
                "running": core.loop.running,
                "waiting": engine.waiting,
                "kv_usage": engine.kv.usage,
                "cached_blocks": engine.kv.cached_blocks,
                "loaded_adapters": engine.adapters.loaded,
                "counters": engine.counters,
                "finished": core.metrics.finished,
                "requests": core.journal.requests,
                "models": core.journal.models,
                "faults": core.faults,
                "last": [entry.as_json() for entry in core.journal.entries()],
            }
        )

    async def _forget(self, _: web.Request) -> web.Response:
        self._core.journal.clear()
        return web.Response(status=204)

    async def _request(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        found = next((e for e in self._core.journal.entries() if e.id == wanted), None)
        return _json(
            found.as_json() if found else {"error": "not among the last"}, status=200 if found else 404
        )


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, headers={"content-type": "application/json"}
    )
