"""The gRPC end of a stream: bytes in, a conversation, bytes out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import grpc

from services.extproc import wire
from services.extproc.budget import Budget
from services.extproc.conversation import Conversation
from services.extproc.errors import ProtocolError
from services.extproc.exchange import PEER, Service
from services.extproc.messages import Reply
from services.extproc.observe import Observer

SERVICE_NAME = "envoy.service.ext_proc.v3.ExternalProcessor"

Context = grpc.aio.ServicerContext[bytes, bytes]


class Servicer:
    """Answers `Process` for one service. Messages pass as bytes: `wire` alone knows protobuf."""

    def __init__(self, service: Service, *, body_limit: int, budget: Budget, observer: Observer) -> None:
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
            if conversation.waiting:
                data = await _patiently(conversation, context)
            elif conversation.revocable:
                data = await _revocably(conversation, context)
            else:
                data = await context.read()


async def _send(context: Context, replies: Iterable[Reply]) -> None:
    for reply in replies:
        for piece in wire.encode(reply):
            await context.write(piece)


async def _patiently(conversation: Conversation, context: Context) -> object:
    """Wait for a decision that takes its time and send it; return what was read next.

    Envoy half-closes at once when its client leaves, and resets the stream a second later: reading meanwhile tells.
    """
    # Two tasks that end in this block: a TaskGroup would wrap the ProtocolError that the caller waits for.
    reading = asyncio.ensure_future(context.read())  # noqa: TID251 - see above
    deciding = asyncio.ensure_future(conversation.resume())  # noqa: TID251 - see above
    try:
        await asyncio.wait((reading, deciding), return_when=asyncio.FIRST_COMPLETED)
        if reading.done() and not isinstance(reading.result(), bytes):
            return None
        await _send(context, await deciding)
        return None if conversation.over else await reading
    finally:
        reading.cancel()
        deciding.cancel()
        await asyncio.wait((reading, deciding))


async def _revocably(conversation: Conversation, context: Context) -> object:
    """Return what was read next, unless the request is taken back before: Envoy takes our answer for the server's."""
    reading = asyncio.ensure_future(context.read())  # noqa: TID251 - as above
    revoking = asyncio.ensure_future(conversation.revoked())  # noqa: TID251 - as above
    try:
        await asyncio.wait((reading, revoking), return_when=asyncio.FIRST_COMPLETED)
        if not revoking.done():
            return reading.result()
        await _send(context, revoking.result())
        return None if conversation.over else await reading
    finally:
        reading.cancel()
        revoking.cancel()
        await asyncio.wait((reading, revoking))


def initial_metadata(context: Context) -> dict[str, str]:
    """Return what the filter or the route says to the service: text entries only, names in lower case."""
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}
