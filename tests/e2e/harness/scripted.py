"""ext_proc servers that follow a script, written on Envoy's full protobuf definitions and on none of our own code.

The filter's name arrives as initial metadata and selects the script, so that one server plays every part.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

import envoy_data_plane.envoy.service.ext_proc.v3 as api
import grpc
import grpc.aio
from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Struct

from tests.e2e.harness.config import DESTINATION

PIECE = 62_000
"""Bytes per streamed reply: other proxies cap near 64 KB."""
MESSAGE_LIMIT = 64 * 1024 * 1024


class Style(enum.StrEnum):
    """How a server treats one direction. ECHO, FIRST and HOLD are full-duplex and differ in when they answer."""

    SKIP = "skip"
    """Not asked at all."""
    HEADERS = "headers"
    """Headers only."""
    ECHO = "echo"
    """Headers at once, then each chunk as it comes."""
    FIRST = "first"
    """Headers with the first chunk."""
    HOLD = "hold"
    """Nothing before the end."""
    STREAMED = "streamed"
    BUFFERED = "buffered"


FULL_DUPLEX = frozenset({Style.ECHO, Style.FIRST, Style.HOLD})
_BODY = {Style.SKIP: "NONE", Style.HEADERS: "NONE", Style.STREAMED: "STREAMED", Style.BUFFERED: "BUFFERED"}


class Fault(enum.StrEnum):
    """What a server does instead of its first reply."""

    ABORT = "abort"
    CLOSE = "close"
    """Ends the stream with OK and without a reply."""
    CLOSE_ON_BODY = "close-on-body"
    """The same, once it has read a piece of the body."""
    HANG = "hang"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What the server of one filter does."""

    request: Style = Style.HEADERS
    response: Style = Style.SKIP
    header_delay: float = 0.0
    """Seconds before the reply to headers."""
    body_delay: float = 0.0
    """Seconds before the first reply to a body."""
    set_headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers set with the last reply of the request."""
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Dynamic metadata set with every reply of the request."""
    reroute: bool = False
    refuse: int = 0
    """Status with which the request is answered at its headers."""
    fault: Fault | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    """More fields of the filter's configuration."""

    @property
    def mode(self) -> dict[str, str]:
        """The filter's `processing_mode` that this script needs."""
        mode = {}
        for side, style in _styles(self):
            mode[f"{side}_header_mode"] = "SKIP" if style is Style.SKIP else "SEND"
            mode[f"{side}_body_mode"] = _BODY.get(style, "FULL_DUPLEX_STREAMED")
            mode[f"{side}_trailer_mode"] = (
                "SEND" if style in FULL_DUPLEX or style is Style.STREAMED else "SKIP"
            )
        return mode


@dataclass(slots=True)
class Stream:
    """What one stream of a filter brought: the raw messages, and whether it is over."""

    filter: str
    messages: list[bytes] = field(default_factory=list)
    over: bool = False


@dataclass(slots=True)
class Scripted:
    """A running server and every stream it saw, in order."""

    scripts: Mapping[str, Script]
    port: int = 0
    streams: list[Stream] = field(default_factory=list)

    def of(self, name: str) -> list[Stream]:
        """Return the streams of the filter `name`."""
        return [stream for stream in self.streams if stream.filter == name]


def pick(endpoints: str) -> dict[str, dict[str, str]]:
    """Return the metadata that names `endpoints` ("ip:port,ip:port") to the load balancer."""
    return {"envoy.lb": {DESTINATION: endpoints}}


@contextlib.asynccontextmanager
async def scripted_running(scripts: Mapping[str, Script]) -> AsyncIterator[Scripted]:
    """Run a server for `scripts` (by filter name) on a free port until the block ends."""
    scripted = Scripted(scripts)
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MESSAGE_LIMIT)]
    server = grpc.aio.server(options=options)
    process: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(_process(scripted))
    service = "envoy.service.ext_proc.v3.ExternalProcessor"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Process": process}),))
    scripted.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield scripted
    finally:
        await server.stop(None)


Context = grpc.aio.ServicerContext[bytes, bytes]


def _process(scripted: Scripted) -> Callable[[object, Context], Awaitable[None]]:
    async def process(_: object, context: Context) -> None:
        stream = Stream(str(dict(context.invocation_metadata() or ())["x-filter"]))
        scripted.streams.append(stream)
        try:
            await _play(scripted.scripts[stream.filter], stream.messages, context)
        finally:
            stream.over = True

    return process


async def _play(script: Script, messages: list[bytes], context: Context) -> None:
    sides = {name: _Side(name, script, style) for name, style in _styles(script)}
    while isinstance(raw := await context.read(), bytes):
        messages.append(raw)
        if script.fault:
            await _fail(script.fault, context)
            return
        message = api.ProcessingRequest.parse(raw)
        side = sides["response" if _is_response(message) else "request"]
        for delay, reply in side.replies(message):
            if delay:
                await asyncio.sleep(delay)  # the server's slowness is what the test is about
            if not message.observability_mode:
                await context.write(bytes(reply))


def _styles(script: Script) -> tuple[tuple[str, Style], ...]:
    return ("request", script.request), ("response", script.response)


async def _fail(fault: Fault, context: Context) -> None:
    if fault is Fault.ABORT:
        await context.abort(grpc.StatusCode.INTERNAL, "scripted")
    elif fault is Fault.CLOSE_ON_BODY:
        await context.read()
    elif fault is Fault.HANG:
        while isinstance(await context.read(), bytes):
            pass


def _is_response(message: api.ProcessingRequest) -> bool:
    parts = (message.response_headers, message.response_body, message.response_trailers)
    return any(part is not None for part in parts)


Replies = Iterator[tuple[float, api.ProcessingResponse]]
"""Replies, each after a delay in seconds."""


class _Side:
    """One direction of one stream: turns each message into the replies that the style owes."""

    def __init__(self, side: str, script: Script, style: Style) -> None:
        self._side, self._script, self._style = side, script, style
        self._held = bytearray()
        self._head_answered = self._body_answered = False

    def replies(self, message: api.ProcessingRequest) -> Replies:
        head = message.request_headers or message.response_headers
        if message.request_headers is not None or message.response_headers is not None:
            return self._on_head(bool(head and head.end_of_stream))
        body = message.request_body if message.request_body is not None else message.response_body
        return self._on_trailers() if body is None else self._on_body(body)

    def _on_head(self, end: bool) -> Replies:
        if self._script.refuse and self._side == "request":
            yield 0.0, _refusal(self._script.refuse)
        elif end or self._style not in {Style.FIRST, Style.HOLD}:
            yield from self._answer_head(last=end or self._style is not Style.BUFFERED)

    def _on_body(self, body: api.HttpBody) -> Replies:
        delay = 0.0 if self._body_answered else self._script.body_delay
        if self._style is Style.HOLD:
            self._held += body.body
            if body.end_of_stream:
                yield from self._release(end=True)
            return
        self._body_answered = True
        if self._style is Style.BUFFERED:
            yield delay, self._reply("body", api.BodyResponse(response=self._common(last=True)))
        elif self._style is Style.STREAMED:
            yield delay, self._reply("body", api.BodyResponse())
        else:
            if not self._head_answered:
                yield from self._answer_head(last=True)
            yield delay, self._chunk(body.body, end=body.end_of_stream)

    def _on_trailers(self) -> Replies:
        if self._style is Style.HOLD:
            yield from self._release(end=False)
        elif not self._head_answered:
            yield from self._answer_head(last=True)
        yield 0.0, self._reply("trailers", api.TrailersResponse())

    def _release(self, *, end: bool) -> Replies:
        yield from self._answer_head(last=True)
        pieces = [bytes(self._held[i : i + PIECE]) for i in range(0, len(self._held), PIECE)] or [b""]
        for number, piece in enumerate(pieces, 1):
            delay = self._script.body_delay if number == 1 else 0.0
            yield delay, self._chunk(piece, end=end and number == len(pieces))

    def _answer_head(self, *, last: bool) -> Replies:
        self._head_answered = True
        reply = self._reply("headers", api.HeadersResponse(response=self._common(last=last)))
        yield self._script.header_delay, reply

    def _common(self, *, last: bool) -> api.CommonResponse:
        script = self._script
        if not (last and self._side == "request" and script.set_headers):
            return api.CommonResponse()
        overwrite = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
        headers = [
            HeaderValueOption(header=HeaderValue(key=name, raw_value=value.encode()), append_action=overwrite)
            for name, value in script.set_headers.items()
        ]
        return api.CommonResponse(
            header_mutation=api.HeaderMutation(set_headers=headers), clear_route_cache=script.reroute
        )

    def _chunk(self, data: bytes, *, end: bool) -> api.ProcessingResponse:
        streamed = api.StreamedBodyResponse(body=data, end_of_stream=end)
        common = api.CommonResponse(body_mutation=api.BodyMutation(streamed_response=streamed))
        return self._reply("body", api.BodyResponse(response=common))

    def _reply(self, part: str, response: object) -> api.ProcessingResponse:
        reply = api.ProcessingResponse(**{f"{self._side}_{part}": response})  # type: ignore[arg-type]  # by name
        if self._side == "request" and self._script.metadata and part != "trailers":
            reply.dynamic_metadata = Struct.from_dict(self._script.metadata)
        return reply


def _refusal(status: int) -> api.ProcessingResponse:
    body = b'{"error": {"message": "refused"}}'
    immediate = api.ImmediateResponse(
        status=HttpStatus(code=StatusCode(status)), body=body, details="refused"
    )
    return api.ProcessingResponse(immediate_response=immediate)
