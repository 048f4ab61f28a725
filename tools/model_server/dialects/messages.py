"""POST /v1/messages: Anthropic's dialect. Its `input_tokens` leave out what was read from the cache."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tools.model_server.dialects.generation import Dialect, Generation, Reply, decode, sse
from tools.model_server.errors import ApiError, bad_request
from tools.model_server.prompts import Message, Text, last_user_text, plain, render_chat

_KINDS = {
    400: "invalid_request_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class _Body(msgspec.Struct):
    model: str
    messages: list[Message]
    max_tokens: int
    system: Text | None = None
    stop_sequences: list[str] = []
    stream: bool = False
    tools: msgspec.Raw = msgspec.Raw()


_BODY = msgspec.json.Decoder(_Body)


def parse(body: bytes) -> Generation:
    """Read a request."""
    b = decode(_BODY, body)
    if not b.messages:
        raise bad_request("messages: at least one message is required", "messages")
    return Generation(
        model=b.model,
        prompts=(render_chat(b.messages, system=plain(b.system), tools=bytes(b.tools)),),
        instructions=(last_user_text(b.messages),),
        max_tokens=b.max_tokens,
        stop=tuple(b.stop_sequences),
        stream=b.stream,
    )


def error(error: ApiError) -> bytes:
    """Return the body of an error."""
    detail = {"type": _KINDS.get(error.status, "api_error"), "message": error.message}
    return msgspec.json.encode({"type": "error", "error": detail})


class _Usage(msgspec.Struct):
    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int


class _TextBlock(msgspec.Struct):
    type: str
    text: str


class _Message(msgspec.Struct, kw_only=True):
    id: str
    type: str = "message"
    role: str = "assistant"
    model: str
    content: list[_TextBlock]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: _Usage


def _usage(reply: Reply) -> _Usage:
    usage = reply.usage
    return _Usage(usage.prompt - usage.cached, usage.completion, 0, usage.cached)


def _stop_reason(reply: Reply) -> str:
    answer = reply.answers[0]
    if answer.finish == "length":
        return "max_tokens"
    return "stop_sequence" if answer.stopped_by else "end_turn"


def whole(reply: Reply) -> bytes:
    """Write an answer that is not streamed."""
    answer = reply.answers[0]
    return msgspec.json.encode(
        _Message(
            id=reply.id,
            model=reply.model,
            content=[_TextBlock("text", answer.text)],
            stop_reason=_stop_reason(reply),
            stop_sequence=answer.stopped_by,
            usage=_usage(reply),
        )
    )


class Stream:
    """Writes the named events of one answer."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def start(self) -> Iterable[bytes]:
        """Return the message without content, and its only content block."""
        reply = self._reply
        message = _Message(id=reply.id, model=reply.model, content=[], usage=_usage(reply))
        yield _event("message_start", {"message": message})
        yield _event("content_block_start", {"index": 0, "content_block": _TextBlock("text", "")})

    def piece(self, index: int, text: str) -> Iterable[bytes]:
        """Return one delta."""
        yield _event("content_block_delta", {"index": index, "delta": {"type": "text_delta", "text": text}})

    def finish(self, index: int) -> Iterable[bytes]:
        """Return the end of the block."""
        yield _event("content_block_stop", {"index": index})

    def end(self) -> Iterable[bytes]:
        """Return the reason and the usage."""
        delta = {"stop_reason": _stop_reason(self._reply), "stop_sequence": self._reply.answers[0].stopped_by}
        yield _event("message_delta", {"delta": delta, "usage": _usage(self._reply)})
        yield _event("message_stop", {})


def _event(kind: str, fields: dict[str, object]) -> bytes:
    return sse(msgspec.json.encode({"type": kind, **fields}), kind)


DIALECT = Dialect("/v1/messages", "msg_", parse, whole, Stream, error)
