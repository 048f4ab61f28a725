"""The gRPC end of a stream: bytes in, a conversation, bytes out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import TypeVar

import grpc

from services.extproc import wire
from services.extproc.budget import Budget
from services.extproc.conversation import Conversation
from services.extproc.errors import ProtocolError
from services.extproc.exchange import PEER, Service
from services.extproc.messages import Reply
from services.extproc.observe import Observer
from services.extproc.readiness import Readiness

SERVICE_NAME = "envoy.service.ext_proc.v3.ExternalProcessor"

Context = grpc.aio.ServicerContext[bytes, bytes]
T = TypeVar("T")


class Servicer:
    """Answers `Process` for one service. Messages pass as bytes: `wire` alone knows protobuf."""

    def __init__(
        self, service: Service, *, body_limit: int, budget: Budget, observer: Observer, readiness: Readiness
    ) -> None:
        self._readiness = readiness
        self._service = service
        self._body_limit = body_limit
        self._budget = budget
        self._observer = observer

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler under Envoy's service name; no generated stub is needed."""
        process: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self.process)
        return grpc.method_handlers_generic_handler(SERVICE_NAME, {"Process": process})

    async def process(self, _: object, context: Context) -> None:
        """Serve one stream. Cancellation ends it wherever it stands.

        `read` and `write` cost 8 % less than the async generators that gRPC also offers.
        """
        if not self._readiness.ready:
            # A proxy may not have noticed that this process was away; it can ask another replica, as nothing was answered.
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not ready")
        conversation = Conversation(
            self._service,
            {**initial_metadata(context), PEER: context.peer()},
            body_limit=self._body_limit,
            budget=self._budget,
            observer=self._observer,
        )
        try:
            await self._serve(conversation, context)
        except ProtocolError as error:
            conversation.broken(error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            conversation.close()

    async def _serve(self, conversation: Conversation, context: Context) -> None:
        # Envoy half-closes when nothing more is expected; after our own answer there is nothing to wait for.
        data: object = await context.read()
        while isinstance(data, bytes):  # else grpc.aio.EOF
            await _send(context, await conversation.receive(wire.decode(data)))
            if conversation.over:
                return
            busy = conversation.waiting or conversation.revocable
            data = await (_attentively(conversation, context) if busy else context.read())


async def _send(context: Context, replies: Iterable[Reply]) -> None:
    for reply in replies:
        for piece in wire.encode(reply):
            await context.write(piece)


async def _attentively(conversation: Conversation, context: Context) -> object:
    """Return what is read next; meanwhile send a decision that takes its time, or that takes the request back.

    Envoy half-closes at once when its client leaves, and resets the stream a second later: reading meanwhile tells.
    """
    async with _owned(context.read()) as reading:
        if conversation.waiting:
            async with _owned(conversation.resume()) as deciding:
                await asyncio.wait((reading, deciding), return_when=asyncio.FIRST_COMPLETED)
                if reading.done() and not isinstance(reading.result(), bytes):
                    return None
                await _send(context, await deciding)
        if conversation.revocable:
            async with _owned(conversation.revoked()) as revoking:
                await asyncio.wait((reading, revoking), return_when=asyncio.FIRST_COMPLETED)
                if revoking.done():
                    await _send(context, revoking.result())
        return None if conversation.over else await reading


@contextlib.asynccontextmanager
async def _owned(work: Awaitable[T]) -> AsyncIterator[asyncio.Future[T]]:
    """Run `work` beside the block and no longer. A TaskGroup would wrap the ProtocolError that the caller waits for."""
    task = asyncio.ensure_future(work)  # noqa: TID251 - see above
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))


def initial_metadata(context: Context) -> dict[str, str]:
    """Return what the filter or the route says to the service: text entries only, names in lower case."""
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}
