"""The endpoints beside generation: health, metrics, models, tokens, adapters."""

from __future__ import annotations

import asyncio
import time

import msgspec
from aiohttp import web

from tools.model_server import tokens
from tools.model_server.api import Api
from tools.model_server.core import Core
from tools.model_server.dialects.generation import decode
from tools.model_server.errors import ApiError
from tools.model_server.metrics import CONTENT_TYPE
from tools.model_server.prompts import Message, render_chat

VERSION = "0.0.0+mock"


class _Tokenize(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None
    messages: list[Message] = []
    tools: msgspec.Raw = msgspec.Raw()


class _Detokenize(msgspec.Struct):
    tokens: list[int]
    model: str | None = None


class _Adapter(msgspec.Struct):
    lora_name: str = ""
    lora_path: str = ""


_TOKENIZE = msgspec.json.Decoder(_Tokenize)
_DETOKENIZE = msgspec.json.Decoder(_Detokenize)
_ADAPTER = msgspec.json.Decoder(_Adapter)


class Service:
    """Handlers over one `Core`."""

    def __init__(self, core: Core, api: Api) -> None:
        self._core = core
        self._api = api

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this module."""
        return [
            web.get("/health", self._health),
            web.get("/version", self._version),
            web.get("/metrics", self._metrics),
            web.get("/v1/models", self._models),
            web.post("/tokenize", self._tokenize),
            web.post("/detokenize", self._detokenize),
            web.post("/v1/load_lora_adapter", self._load),
            web.post("/v1/unload_lora_adapter", self._unload),
            web.post("/reset_prefix_cache", self._reset_prefix_cache),
            web.route("*", "/{path:.*}", self._not_found),
        ]

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, _: web.Request) -> web.Response:
        return _json({"version": VERSION})

    async def _metrics(self, _: web.Request) -> web.Response:
        text = self._core.metrics.render(self._core.loop, time.time())
        return web.Response(body=text.encode(), headers={"content-type": CONTENT_TYPE})

    async def _models(self, _: web.Request) -> web.Response:
        return _json({"object": "list", "data": self._core.models.cards()})

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        try:
            body = decode(_TOKENIZE, await request.read())
        except ApiError as error:
            return self._api.refuse(error)
        if body.prompt is None:
            text = render_chat(body.messages, tools=bytes(body.tools))
        else:
            text = body.prompt.encode()
        ids = self._core.tokenizer.encode(text)
        limit = self._core.profile.max_model_len
        return _json({"count": len(ids), "max_model_len": limit, "tokens": ids, "token_strs": None})

    async def _detokenize(self, request: web.Request) -> web.StreamResponse:
        try:
            body = decode(_DETOKENIZE, await request.read())
        except ApiError as error:
            return self._api.refuse(error)
        return _json({"prompt": tokens.decode(body.tokens).decode(errors="replace")})

    async def _load(self, request: web.Request) -> web.StreamResponse:
        try:
            body = decode(_ADAPTER, await request.read())
            message = self._core.models.load(body.lora_name, body.lora_path)
        except ApiError as error:
            return self._api.refuse(error)
        await asyncio.sleep(self._core.profile.adapter_load)  # reading it from disk
        return web.Response(text=message)

    async def _unload(self, request: web.Request) -> web.StreamResponse:
        try:
            body = decode(_ADAPTER, await request.read())
            message = self._core.models.unload(body.lora_name)
        except ApiError as error:
            return self._api.refuse(error)
        self._core.loop.engine.adapters.forget(body.lora_name)
        return web.Response(text=message)

    async def _reset_prefix_cache(self, _: web.Request) -> web.Response:
        self._core.loop.engine.kv.clear()
        return web.Response()

    async def _not_found(self, _: web.Request) -> web.Response:
        return _json({"detail": "Not Found"}, status=404)


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, headers={"content-type": "application/json"}
    )
