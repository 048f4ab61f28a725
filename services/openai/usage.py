"""Token counts out of an answer, whole or streamed, in every dialect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=0)] | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer."""

    prompt: int = 0
    """All of the prompt, the cached part included."""
    completion: int = 0
    cached: int = 0
    """The part of the prompt that the server found in its prefix cache."""


class _Details(msgspec.Struct):
    cached_tokens: _Count = None


class _Counts(msgspec.Struct):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: _Count = None
    prompt_tokens_details: _Details | None = None
    # Responses API and Anthropic; audio answers of OpenAI too.
    input_tokens: _Count = None
    output_tokens: _Count = None
    input_tokens_details: _Details | None = None
    # Anthropic alone: `input_tokens` leaves these out.
    cache_read_input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None


class _Holder(msgspec.Struct):
    usage: _Counts | None = None


class _Answer(msgspec.Struct):
    usage: _Counts | None = None
    response: _Holder | None = None
    """Events of the Responses API."""
    message: _Holder | None = None
    """Anthropic's `message_start`."""


class UsageMeter:
    """Gathers the usage of one answer from its body, or from the `data` of its events one after another.

    Later counts replace earlier ones, field by field: servers send running totals, and Anthropic's dialect spreads
    them over its first and its last events.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def feed(self, data: bytes) -> None:
        """Take a whole JSON body, or one event's data. What cannot be read holds no usage."""
        if b'"usage"' in data and (counts := _find(data)) is not None:
            self._seen |= _named(counts)

    @property
    def usage(self) -> Usage | None:
        """The counts so far; None until the answer has named one."""
        seen = self._seen
        if not seen:
            return None
        completion = seen.get("completion_tokens", seen.get("output_tokens", 0))
        cached = seen.get("cached_tokens", seen.get("cache_read_input_tokens", 0))
        return Usage(_prompt(seen), completion, cached)


def usage_of(data: bytes) -> Usage | None:
    """Return the usage that one JSON body or event holds."""
    meter = UsageMeter()
    meter.feed(data)
    return meter.usage


def _find(data: bytes) -> _Counts | None:
    try:
        answer = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    holders = (answer, answer.response, answer.message)
    return next((holder.usage for holder in holders if holder is not None and holder.usage is not None), None)


def _named(counts: _Counts) -> dict[str, int]:
    found: dict[str, int | None] = {
        name: value for name, value in msgspec.structs.asdict(counts).items() if not name.endswith("_details")
    }
    details = counts.prompt_tokens_details or counts.input_tokens_details
    found["cached_tokens"] = details.cached_tokens if details else None
    return {name: value for name, value in found.items() if value is not None}


def _prompt(seen: dict[str, int]) -> int:
    if "prompt_tokens" in seen:
        return seen["prompt_tokens"]
    if "input_tokens" in seen:  # Anthropic's leave out what the cache gave and took
        apart = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        return sum(seen.get(name, 0) for name in apart)
    # A rerank answer names nothing but the total.
    return max(0, seen.get("total_tokens", 0) - seen.get("completion_tokens", 0))


_DECODER = msgspec.json.Decoder(_Answer)
