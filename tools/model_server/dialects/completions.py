"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tools.model_server import tokens
from tools.model_server.dialects.chat import UsageBody
from tools.model_server.dialects.generation import (
    DONE,
    Dialect,
    Generation,
    Reply,
    StreamOptions,
    as_stops,
    decode,
    openai_error,
    sse,
)
from tools.model_server.errors import bad_request

Prompts = str | list[str | int | list[int]]
"""A text, a list of texts, token ids, or a list of lists of token ids."""


class _Body(msgspec.Struct):
    model: str
    prompt: Prompts
    max_tokens: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    cache_salt: str | None = None


_BODY = msgspec.json.Decoder(_Body)


def parse(body: bytes) -> Generation:
    """Read a request."""
    b = decode(_BODY, body)
    prompts = as_prompts(b.prompt, "prompt")
    return Generation(
        model=b.model,
        prompts=prompts,
        instructions=[p.decode(errors="replace") for p in prompts],
        max_tokens=b.max_tokens,
        stop=as_stops(b.stop),
        n=1 if b.n is None else b.n,
        stream=bool(b.stream),
        include_usage=bool(b.stream_options and b.stream_options.include_usage),
        cache_salt=b.cache_salt or "",
    )


def as_prompts(value: Prompts, param: str) -> list[bytes]:
    """Return the bytes of every prompt in `value`."""
    if isinstance(value, str):
        return [value.encode()]
    if not value:
        raise bad_request(f"`{param}` is empty.", param)
    ids = [item for item in value if isinstance(item, int)]
    if len(ids) == len(value):
        return [tokens.pack(ids)]
    if ids:
        raise bad_request(f"`{param}` mixes token ids with texts.", param)
    return [p.encode() if isinstance(p, str) else tokens.pack(p) for p in value if not isinstance(p, int)]


class _Choice(msgspec.Struct):
    index: int
    text: str
    logprobs: None
    finish_reason: str | None
    stop_reason: str | None = None


class _Whole(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[_Choice]
    usage: UsageBody | None = None
    system_fingerprint: str


def _encode(reply: Reply, choices: list[_Choice], *, usage: bool) -> bytes:
    return msgspec.json.encode(
        _Whole(
            id=reply.id,
            object="text_completion",
            created=reply.created,
            model=reply.model,
            choices=choices,
            usage=UsageBody.of(reply.usage) if usage else None,
            system_fingerprint=reply.server,
        )
    )


def whole(reply: Reply) -> bytes:
    """Write an answer that is not streamed."""
    choices = [_Choice(i, a.text, None, a.finish, a.stopped_by) for i, a in enumerate(reply.answers)]
    return _encode(reply, choices, usage=True)


class Stream:
    """Writes the chunks of one answer."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def start(self) -> Iterable[bytes]:
        """Return nothing: the first chunk has text."""
        return ()

    def piece(self, index: int, text: str) -> Iterable[bytes]:
        """Return one chunk with text."""
        yield sse(_encode(self._reply, [_Choice(index, text, None, None)], usage=False))

    def finish(self, index: int) -> Iterable[bytes]:
        """Return one chunk with the reason."""
        answer = self._reply.answers[index]
        yield sse(
            _encode(self._reply, [_Choice(index, "", None, answer.finish, answer.stopped_by)], usage=False)
        )

    def end(self) -> Iterable[bytes]:
        """Return the usage when asked for, then the end mark."""
        if self._reply.generation.include_usage:
            yield sse(_encode(self._reply, [], usage=True))
        yield DONE


DIALECT = Dialect("/v1/completions", "cmpl-", parse, whole, Stream, openai_error)
