"""The port of the facades: off unless it is configured."""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from services.extproc.config import ConfigError
from services.extproc.errors import BindError
from services.safety.facades import litellm, model_armor
from services.safety.facades.config import FacadesConfig
from services.safety.facades.engine import Engine, Service
from services.safety.providers.settings import Secret


def application(service: Service, config: FacadesConfig) -> web.Application:
    """Return the application; raise `ConfigError` for a token that is not there."""
    try:
        secret = Secret.maybe(config.auth)
    except ValueError as error:
        raise ConfigError(f"facades.{error}") from error
    app = web.Application(client_max_size=config.body_bytes, middlewares=[_guarded(secret)])
    engine = Engine(service)
    app.router.add_post(model_armor.PATH, model_armor.ModelArmor(engine).sanitize)
    for path in (litellm.PATH, litellm.NAMED_PATH):
        app.router.add_post(path, litellm.LiteLLM(engine).judge)
    return app


def _guarded(secret: Secret | None) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if secret is not None and not _knows(request, secret()):
            return web.json_response({"error": {"code": 401, "status": "UNAUTHENTICATED"}}, status=401)
        return await handler(request)

    return check


def _knows(request: web.Request, token: str) -> bool:
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    given = bearer or request.headers.get("x-api-key", "")
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


@contextlib.asynccontextmanager
async def serving(service: Service, config: FacadesConfig | None) -> AsyncIterator[None]:
    """Serve while the block runs; nothing if there is no configuration. Raises `BindError`."""
    if config is None:
        yield
        return
    runner = web.AppRunner(application(service, config), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.port).start()
    except OSError as error:
        await runner.cleanup()
        raise BindError.on(config.host, config.port, error) from error
    try:
        yield
    finally:
        await runner.cleanup()
