"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tools.model_server.dialects.generation import (
    DONE,
    Dialect,
    Generation,
    Reply,
    StreamOptions,
    Usage,
    as_stops,
    decode,
    openai_error,
    sse,
)
from tools.model_server.errors import bad_request
from tools.model_server.prompts import Message, last_user_text, render_chat

# Requests.


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


class _Body(msgspec.Struct):
    model: str
    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: msgspec.Raw = msgspec.Raw()
    tool_choice: str | _Tool | None = None
    cache_salt: str | None = None


_BODY = msgspec.json.Decoder(_Body)
_TOOLS = msgspec.json.Decoder(list[_Tool] | None)


def parse(body: bytes) -> Generation:
    """Read a request."""
    b = decode(_BODY, body)
    if not b.messages:
        raise bad_request("`messages` is empty.", "messages")
    return Generation(
        model=b.model,
        prompts=(render_chat(b.messages, tools=bytes(b.tools)),),
        instructions=(last_user_text(b.messages),),
        max_tokens=b.max_tokens if b.max_completion_tokens is None else b.max_completion_tokens,
        stop=as_stops(b.stop),
        n=1 if b.n is None else b.n,
        stream=bool(b.stream),
        include_usage=bool(b.stream_options and b.stream_options.include_usage),
        cache_salt=b.cache_salt or "",
        tool=_required_tool(b),
    )


def _required_tool(body: _Body) -> str:
    if isinstance(body.tool_choice, _Tool):
        return body.tool_choice.function.name
    if body.tool_choice == "required" and bytes(body.tools):
        tools = decode(_TOOLS, bytes(body.tools))
        return tools[0].function.name if tools else ""
    return ""


# Answers.


class _CallFunction(msgspec.Struct, omit_defaults=True):
    arguments: str
    name: str | None = None


class _Call(msgspec.Struct, omit_defaults=True):
    function: _CallFunction
    id: str | None = None
    type: str | None = None
    index: int | None = None


class _Answer(msgspec.Struct, omit_defaults=True):
    role: str | None = None
    content: str | msgspec.UnsetType | None = msgspec.UNSET
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int
    message: _Answer
    logprobs: None
    finish_reason: str


class _DeltaChoice(msgspec.Struct):
    index: int
    delta: _Answer
    logprobs: None
    finish_reason: str | None


class _CachedTokens(msgspec.Struct):
    cached_tokens: int


class UsageBody(msgspec.Struct):
    """`usage` of chat and completions."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    prompt_tokens_details: _CachedTokens

    @classmethod
    def of(cls, usage: Usage) -> UsageBody:
        """Return `usage` in this form."""
        total = usage.prompt + usage.completion
        return cls(usage.prompt, total, usage.completion, _CachedTokens(usage.cached))


class _Whole(msgspec.Struct, kw_only=True):
    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[_Choice]
    usage: UsageBody
    system_fingerprint: str


class _Chunk(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[_DeltaChoice]
    usage: UsageBody | None = None
    system_fingerprint: str


def arguments(text: str) -> str:
    """Return a tool call's arguments that say `text`."""
    return msgspec.json.encode({"text": text}).decode()


def whole(reply: Reply) -> bytes:
    """Write an answer that is not streamed."""
    tool = reply.generation.tool
    choices = []
    for index, answer in enumerate(reply.answers):
        if tool:
            call = _Call(_CallFunction(arguments(answer.text), tool), f"call-{reply.id}-{index}", "function")
            choices.append(_Choice(index, _Answer("assistant", None, [call]), None, "tool_calls"))
        else:
            choices.append(_Choice(index, _Answer("assistant", answer.text), None, answer.finish))
    return msgspec.json.encode(
        _Whole(
            id=reply.id,
            created=reply.created,
            model=reply.model,
            choices=choices,
            usage=UsageBody.of(reply.usage),
            system_fingerprint=reply.server,
        )
    )


class Stream:
    """Writes the chunks of one answer."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._tool = reply.generation.tool

    def start(self) -> Iterable[bytes]:
        """Return one chunk with the role for every choice."""
        for index in range(len(self._reply.answers)):
            yield self._delta(index, _Answer("assistant", None if self._tool else ""))
            if self._tool:
                call = _Call(
                    _CallFunction('{"text":"', self._tool), f"call-{self._reply.id}-{index}", "function", 0
                )
                yield self._delta(index, _Answer(tool_calls=[call]))

    def piece(self, index: int, text: str) -> Iterable[bytes]:
        """Return one chunk with content, or with a part of the call's arguments."""
        if self._tool:
            escaped = msgspec.json.encode(text)[1:-1].decode()
            yield self._delta(index, _Answer(tool_calls=[_Call(_CallFunction(escaped), index=0)]))
        else:
            yield self._delta(index, _Answer(content=text))

    def finish(self, index: int) -> Iterable[bytes]:
        """Return one chunk with the reason."""
        if self._tool:
            yield self._delta(index, _Answer(tool_calls=[_Call(_CallFunction('"}'), index=0)]))
        yield self._delta(index, _Answer(), "tool_calls" if self._tool else self._reply.answers[index].finish)

    def end(self) -> Iterable[bytes]:
        """Return the usage when asked for, then the end mark."""
        if self._reply.generation.include_usage:
            yield self._chunk([], UsageBody.of(self._reply.usage))
        yield DONE

    def _delta(self, index: int, delta: _Answer, finish: str | None = None) -> bytes:
        return self._chunk([_DeltaChoice(index, delta, None, finish)])

    def _chunk(self, choices: list[_DeltaChoice], usage: UsageBody | None = None) -> bytes:
        reply = self._reply
        chunk = _Chunk(
            id=reply.id,
            object="chat.completion.chunk",
            created=reply.created,
            model=reply.model,
            choices=choices,
            usage=usage,
            system_fingerprint=reply.server,
        )
        return sse(msgspec.json.encode(chunk))


DIALECT = Dialect("/v1/chat/completions", "chatcmpl-", parse, whole, Stream, openai_error)
