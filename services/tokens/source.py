"""Tokens of prompts, looked for in the background: a vocabulary in threads, a server over HTTP. Nothing waits for them.

Conversations are rendered by the operator's copy of the chat template, or by the model server's `/tokenize`.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import aiohttp
import msgspec
import structlog

from services.extproc.background import background
from services.openai.dialects import Dialect
from services.openai.digest import Digest
from services.openai.exact import Exact, exact_of
from services.openai.peek import Peek
from services.tokens.config import TokenSource
from services.tokens.files import Files
from services.tokens.memory import Memory
from services.tokens.prompts import Conversation, Ids, Plain, Prompt, RenderError, prompt_of
from services.tokens.records import Found, Observer, Outcome

QUEUED = 64
"""Prompts that wait for their turn. More would be old before they are learnt."""
WORTH = 8
"""A prompt is tokenized again when this share of it, and more, is not known: what a long conversation costs in all grows
with its length, not with the square of it."""


class TokenError(Exception):
    """A prompt's tokens could not be had."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request whose tokens are wanted."""

    body: bytes
    dialect: Dialect
    seen: Peek
    digest: Digest
    adapter: str = ""
    """The LoRA adapter that serves it; empty for the base model."""


class Tokens:
    """One model's prompts."""

    def __init__(
        self,
        model: str,
        source: TokenSource,
        *,
        session: aiohttp.ClientSession,
        threads: Executor,
        observer: Observer,
    ) -> None:
        self.memory = Memory()
        self._model = model
        self._source = source
        self._session = session
        self._threads = threads
        self._observer = observer
        self._files = Files(source.file, source.template) if source.file else None
        self._queue: asyncio.Queue[tuple[Ask, Prompt, asyncio.Future[Exact | None]]] = asyncio.Queue(QUEUED)
        self._log = structlog.get_logger().bind(model=model)

    async def run(self) -> None:
        """Work off what is asked, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._source.concurrency):
                group.create_task(self._work())

    async def exact(self, ask: Ask) -> Exact | None:
        """Return what is known of the prompt in tokens, perhaps after the configured wait; have the rest learnt."""
        known = self.memory.find(ask.digest, ask.seen.prompt)
        covered, size = known.prompt_bytes if known else 0, ask.digest.prompt_bytes
        if not ask.digest.blocks or size - covered <= size // WORTH:
            return self._found(known, ask)
        prompt = prompt_of(ask.body, ask.dialect, ask.digest.model)
        if prompt is None or not self._can(prompt):
            self._observer.found(self._model, Found.UNSUPPORTED)
            return known
        learnt = await self._learn(ask, prompt)
        return self._found(learnt or known, ask)

    def _found(self, known: Exact | None, ask: Ask) -> Exact | None:
        whole = known is not None and known.prompt_bytes >= ask.digest.prompt_bytes
        self._observer.found(self._model, Found.ALL if whole else Found.BEGINNING if known else Found.NOTHING)
        return known

    def _can(self, prompt: Prompt) -> bool:
        return isinstance(prompt, Ids) or bool(self._source.server) or self._files_for(prompt) is not None

    def _files_for(self, prompt: Plain | Conversation) -> Files | None:
        return self._files if self._files is not None and self._files.can(prompt) else None

    async def _learn(self, ask: Ask, prompt: Prompt) -> Exact | None:
        answer: asyncio.Future[Exact | None] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((ask, prompt, answer))
        except asyncio.QueueFull:
            self._observer.tokenized(self._model, Outcome.DROPPED, 0.0)
            return None
        if not self._source.wait_seconds:
            return None
        await asyncio.wait([answer], timeout=self._source.wait_seconds)
        return answer.result() if answer.done() else None

    async def _work(self) -> None:
        while True:
            ask, prompt, answer = await self._queue.get()
            began, exact = time.perf_counter(), None
            try:
                exact = await self._tokenize(ask, prompt)
            except TokenError as error:
                self._observer.tokenized(self._model, Outcome.FAILED, 0.0)
                self._log.warning("a prompt could not be tokenized", error=str(error))
            else:
                self.memory.learn(ask.digest, ask.seen.prompt, exact)
                self._observer.tokenized(self._model, Outcome.TOKENIZED, time.perf_counter() - began)
            answer.set_result(exact)

    async def _tokenize(self, ask: Ask, prompt: Prompt) -> Exact:
        loop = asyncio.get_running_loop()
        if not isinstance(prompt, Ids) and (files := self._files_for(prompt)) is not None:
            return await loop.run_in_executor(self._threads, self._encoded, ask, prompt, files)
        ids = prompt.ids if isinstance(prompt, Ids) else await self._served(prompt)
        return await loop.run_in_executor(self._threads, self._hashed, ask, ids)

    def _encoded(self, ask: Ask, prompt: Plain | Conversation, files: Files) -> Exact:
        try:
            return self._hashed(ask, files.encode(prompt))
        except RenderError as error:
            raise TokenError(str(error)) from error

    def _hashed(self, ask: Ask, ids: tuple[int, ...] | list[int]) -> Exact:
        try:
            return exact_of(
                ids,
                block_size=self._source.block_size,
                prompt_bytes=ask.digest.prompt_bytes,
                adapter=ask.adapter,
                cache_salt=ask.seen.cache_salt,
            )
        except struct.error as error:
            raise TokenError(f"the prompt holds what is no token id: {error}") from error

    async def _served(self, prompt: Plain | Conversation) -> list[int]:
        body = prompt.body if isinstance(prompt, Conversation) else _plain_body(prompt, self._model)
        url, headers = self._source.server.rstrip("/") + "/tokenize", {"content-type": "application/json"}
        try:
            async with (
                asyncio.timeout(self._source.timeout_seconds),
                self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                if answer.status != 200:  # noqa: PLR2004 - OK
                    raise TokenError(f"{url}: status {answer.status}")
                return _ANSWER.decode(await answer.read()).tokens
        except TimeoutError as error:
            raise TokenError(f"{url}: no answer in {self._source.timeout_seconds:g} s") from error
        except (aiohttp.ClientError, OSError, msgspec.MsgspecError) as error:
            raise TokenError(f"{url}: {error}") from error


@contextlib.asynccontextmanager
async def tokenizing(
    sources: Mapping[str, TokenSource], observer: Observer
) -> AsyncIterator[Mapping[str, Tokens]]:
    """Have prompts tokenized by `sources`, one for each model, while the block runs."""
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        # One thread for each file: a second prompt would only slow the first one and the event loop.
        threads = stack.enter_context(ThreadPoolExecutor(max(1, len(sources)), "tokens"))
        found = {
            model: Tokens(model, source, session=session, threads=threads, observer=observer)
            for model, source in sources.items()
        }
        for tokens in found.values():
            await stack.enter_async_context(background(tokens.run()))
        yield found


class _Answer(msgspec.Struct):
    tokens: list[int]


_ANSWER = msgspec.json.Decoder(_Answer)


def _plain_body(prompt: Plain, model: str) -> bytes:
    return msgspec.json.encode({"model": model, "prompt": prompt.text, "add_special_tokens": prompt.special})
