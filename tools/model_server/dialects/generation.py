"""What all dialects that generate text have in common: a request to answer, and the record of its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import msgspec

from tools.model_server.answers import Answer
from tools.model_server.errors import ApiError, bad_request

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A request, whatever its dialect."""

    model: str
    prompts: Sequence[bytes]
    """One, except for completions of several prompts."""
    instructions: Sequence[str]
    """The last user text of each prompt."""
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    cache_salt: str = ""
    tool: str = ""
    """The function that must be called; its argument `text` is then the answer."""


@dataclass(slots=True)
class Usage:
    """Tokens of one request."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0


@dataclass(slots=True)
class Reply:
    """The answer to one request, complete or on its way. Times in seconds since the epoch."""

    id: str
    created: int
    model: str
    """As the client asked for it."""
    server: str
    generation: Generation
    answers: Sequence[Answer] = ()
    """Choices of the first prompt, then of the second, and so on."""
    usage: Usage = field(default_factory=Usage)


class Encoder(Protocol):
    """Writes one stream. Every method returns events to send, one item each."""

    def start(self) -> Iterable[bytes]:
        """Return what comes before the first piece."""

    def piece(self, index: int, text: str) -> Iterable[bytes]:
        """Return one token of choice `index`."""

    def finish(self, index: int) -> Iterable[bytes]:
        """Return the end of choice `index`."""

    def end(self) -> Iterable[bytes]:
        """Return the end of the stream; `usage` is final."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One endpoint that generates text."""

    path: str
    id_prefix: str
    parse: Callable[[bytes], Generation]
    """Reads a request body; raises `ApiError` 400."""
    whole: Callable[[Reply], bytes]
    """Writes the answer of a request that does not stream."""
    encoder: Callable[[Reply], Encoder]
    error: Callable[[ApiError], bytes]


class StreamOptions(msgspec.Struct):
    """`stream_options` of chat and completions."""

    include_usage: bool | None = None


class ErrorDetail(msgspec.Struct):
    """The form of vLLM's errors."""

    message: str
    type: str
    param: str | None
    code: int


class ErrorBody(msgspec.Struct):
    """OpenAI's envelope."""

    error: ErrorDetail


def openai_error(error: ApiError) -> bytes:
    """Return the body of an error as vLLM writes it."""
    return msgspec.json.encode(ErrorBody(ErrorDetail(error.message, error.kind, error.param, error.status)))


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return what `body` says; raise `ApiError` 400 with the path of what is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise bad_request(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"JSON decode error: {error}") from error


def as_stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """Return the stop strings of a request."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def sse(data: bytes, event: str = "") -> bytes:
    """Return one server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data) if event else b"data: %b\n\n" % data


DONE = b"data: [DONE]\n\n"
