"""The endpoints that generate text and embeddings."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence

from aiohttp import web

from tools.model_server import tokens
from tools.model_server.core import Core
from tools.model_server.dialects.generation import Dialect, Generation, Reply, openai_error
from tools.model_server.embeddings import embedding_body, parse_embeddings
from tools.model_server.engine import DoesNotFit, Progress, Request
from tools.model_server.errors import ApiError, bad_request
from tools.model_server.faults import Kind, Steering, steering
from tools.model_server.journal import Entry
from tools.model_server.loop import Ticket
from tools.model_server.wire import Wire

JSON = "application/json"
MAX_CHOICES = 128
"""OpenAI's limit of `n`."""
EVENT_STREAM = "text/event-stream; charset=utf-8"


class Api:
    """Handlers over one `Core`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._served_by = {"x-served-by": core.name}

    async def generate(self, dialect: Dialect, request: web.Request) -> web.StreamResponse:
        """Answer in `dialect`."""
        try:
            entry, body = await self._receive(request)
            steer = self._steer(request)
            generation = dialect.parse(body)
            adapter = self._admit(entry, generation.model)
            reply = self._reply(dialect, generation)
            requests = self._requests(reply, adapter)
            with self._core.loop.ticket(requests, stream=generation.stream, held=steer.paced) as ticket:
                if generation.stream:
                    return await self._stream(request, dialect, reply, ticket, steer)
                self._settle(reply, await ticket.done())
                await self._pace(ticket, steer, max(a.tokens for a in reply.answers) - 1)
                return await self._send(request, dialect.whole(reply), steer)
        except (ApiError, DoesNotFit) as error:
            return self.refuse(error, dialect.error)

    async def embed(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/embeddings."""
        try:
            entry, body = await self._receive(request)
            steer = self._steer(request)
            asked = parse_embeddings(body)
            adapter = self._admit(entry, asked.model)
            requests = [self._request(uuid.uuid4().hex, text, b"", 0, adapter) for text in asked.texts]
            with self._core.loop.ticket(requests, stream=False, held=steer.paced) as ticket:
                await ticket.done()
                await self._pace(ticket, steer, 0)
                return await self._send(request, embedding_body(asked, created=int(time.time())), steer)
        except (ApiError, DoesNotFit) as error:
            return self.refuse(error)

    def refuse(
        self, error: ApiError | DoesNotFit, write: Callable[[ApiError], bytes] = openai_error
    ) -> web.StreamResponse:
        """Return the answer that `error` stands for."""
        if isinstance(error, DoesNotFit):
            error = bad_request(f"Longer than the model's maximum context length: {error}.")
        return web.Response(
            body=write(error), status=error.status, headers=self._served_by | {"content-type": JSON}
        )

    async def _receive(self, request: web.Request) -> tuple[Entry, bytes]:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise ApiError(413, "BadRequestError", error.text or "The body is too large.") from error
        headers = request.raw_headers
        request_id = request.headers.get("x-request-id", "")
        return self._core.journal.add(request_id, request.method, request.path, headers, body), body

    def _steer(self, request: web.Request) -> Steering:
        steer = steering(request.headers, self._core.faults.of_answer())
        if steer.fault is not None and steer.fault.kind is Kind.STATUS:
            raise ApiError(steer.fault.status, "InternalServerError", "A fault was asked for.")
        return steer

    def _admit(self, entry: Entry, model: str) -> str:
        adapter = self._core.models.adapter_of(model)
        self._core.journal.accepted(entry, model)
        return adapter

    def _check_size(self, generation: Generation) -> None:
        """Refuse what could never run before its answer takes memory."""
        wanted, limit = generation.max_tokens, self._core.profile.max_model_len
        if wanted is not None and wanted < 1:
            raise bad_request(f"max_tokens must be at least 1, got {wanted}.", "max_tokens")
        if not 1 <= generation.n <= MAX_CHOICES:
            raise bad_request(f"n must be between 1 and {MAX_CHOICES}, got {generation.n}.", "n")
        for prompt in generation.prompts:
            if (used := self._core.tokenizer.count(prompt)) + (wanted or 1) > limit:
                raise bad_request(
                    f"This model's maximum context length is {limit} tokens: {used} of the prompt and "
                    f"{wanted or 1} of the answer are more.",
                    "messages",
                )

    def _reply(self, dialect: Dialect, generation: Generation) -> Reply:
        self._check_size(generation)
        answers = [
            self._core.speaker.answer(
                instruction, prompt, max_tokens=generation.max_tokens, stop=generation.stop, variant=variant
            )
            for prompt, instruction in zip(generation.prompts, generation.instructions, strict=True)
            for variant in range(generation.n)
        ]
        reply_id = dialect.id_prefix + uuid.uuid4().hex
        reply = Reply(reply_id, int(time.time()), generation.model, self._core.name, generation, answers)
        reply.usage.prompt = sum(map(self._core.tokenizer.count, generation.prompts))
        return reply

    def _requests(self, reply: Reply, adapter: str) -> list[Request]:
        n, prompts = reply.generation.n, reply.generation.prompts
        salt = reply.generation.cache_salt
        return [
            self._request(
                f"{reply.id}-{index}",
                prompts[index // n],
                answer.text.encode(),
                answer.tokens,
                adapter,
                salt,
            )
            for index, answer in enumerate(reply.answers)
        ]

    def _request(
        self, request_id: str, prompt: bytes, answer: bytes, output_tokens: int, adapter: str, salt: str = ""
    ) -> Request:
        cut = self._core.tokenizer
        cached = cut.cached(prompt, answer)
        blocks = tokens.block_hashes(
            cached,
            block_size=self._core.profile.block_size,
            seed=f"{self._core.models.root}\0{adapter}\0{salt}",
        )
        ids = cut.ids(cached) if self._core.events is not None else ()
        return Request(request_id, max(1, cut.count(prompt)), output_tokens, blocks, adapter, ids, salt)

    async def _send(self, request: web.Request, body: bytes, steer: Steering) -> web.StreamResponse:
        headers = self._served_by | {"content-type": JSON}
        if steer.plain:
            return web.Response(body=body, headers=headers)
        wire = Wire(request, steer, headers, length=len(body))
        try:
            await wire.send((body,))
            return await wire.finish()
        except ConnectionError:
            return wire.response

    async def _stream(
        self, request: web.Request, dialect: Dialect, reply: Reply, ticket: Ticket, steer: Steering
    ) -> web.StreamResponse:
        wire = Wire(request, steer, self._served_by | {"content-type": EVENT_STREAM})
        try:
            await wire.open()
            await self._stream_events(wire, dialect, reply, ticket, steer)
            return await wire.finish()
        except ConnectionError:
            return wire.response  # the client is gone, or a fault has struck

    async def _stream_events(
        self, wire: Wire, dialect: Dialect, reply: Reply, ticket: Ticket, steer: Steering
    ) -> None:
        encoder = dialect.encoder(reply)
        sent = [0] * len(reply.answers)
        batch: list[bytes] | None = None
        while news := await ticket.news():
            self._settle(reply, news)
            batch = list(encoder.start()) if batch is None else []
            for index, progress in news:
                for _ in range(progress.tokens):
                    if steer.paced:
                        await self._pace(ticket, steer, sent[index])
                    batch += encoder.piece(index, reply.answers[index].piece(sent[index]))
                    sent[index] += 1
                    if steer.paced:
                        await wire.send(batch)
                        batch = []
                if progress.finished:
                    batch += encoder.finish(index)
            await wire.send(batch)
        await wire.send(encoder.end())

    def _settle(self, reply: Reply, news: Sequence[tuple[int, Progress]]) -> None:
        """Count what the engine reports. Choices of one prompt share it: the first one's cache hit is the prompt's."""
        usage, n = reply.usage, reply.generation.n
        for index, progress in news:
            usage.completion += progress.tokens
            if progress.first and not index % n:
                usage.cached += progress.cached_tokens
            if progress.finished:
                self._core.metrics.finished[reply.answers[index].finish] += 1

    async def _pace(self, ticket: Ticket, steer: Steering, token: int) -> None:
        """Wait until token number `token` (from 0) may be sent."""
        delay = ticket.started + steer.ttft + token * steer.token - self._core.loop.clock()
        if delay > 0:
            await asyncio.sleep(delay)
