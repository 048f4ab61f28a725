"""Which API a request speaks, told from its method and path alone, and where that API keeps what."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote, unquote


class Dialect(enum.StrEnum):
    """A closed set, fit for a metric label."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MESSAGES = "messages"
    """Anthropic's Messages API."""
    COUNT_TOKENS = "count_tokens"
    """Anthropic's `messages/count_tokens`."""
    RERANK = "rerank"
    SCORE = "score"
    POOLING = "pooling"
    """vLLM's `pooling` and `classify`."""
    TOKENIZE = "tokenize"
    DETOKENIZE = "detokenize"
    IMAGES = "images"
    IMAGE_EDITS = "image_edits"
    TRANSCRIPTIONS = "transcriptions"
    TRANSLATIONS = "translations"
    SPEECH = "speech"
    MODELS = "models"
    """`GET models` and `GET models/{id}`: no body, no prompt."""
    OTHER = "other"
    """Nothing that is known here."""


class ErrorForm(enum.StrEnum):
    """How a dialect writes an error."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a dialect keeps what a gateway reads."""

    prompt: tuple[str, ...] = ()
    """The fields that a chat template puts before the answer, in the order of the template."""
    content: tuple[str, ...] = ()
    """A request holds at least one of these; the first one is named when none is there."""
    error_form: ErrorForm = ErrorForm.OPENAI
    form: bool = False
    """The request may be multipart/form-data instead of JSON."""


_ANTHROPIC = Shape(("tools", "system", "messages"), ("messages",), ErrorForm.ANTHROPIC)
_AUDIO = Shape(("prompt",), ("file",), form=True)
_EMBEDDING = Shape(("input", "messages"), ("input", "messages"))  # vLLM embeds conversations too

SHAPES: Mapping[Dialect, Shape] = MappingProxyType(
    {
        Dialect.CHAT: Shape(("tools", "messages"), ("messages",)),
        Dialect.COMPLETIONS: Shape(("prompt",), ("prompt", "prompt_embeds")),
        Dialect.EMBEDDINGS: _EMBEDDING,
        Dialect.POOLING: _EMBEDDING,
        # A stored prompt or an earlier response can stand in for the input.
        Dialect.RESPONSES: Shape(
            ("tools", "instructions", "input"), ("input", "prompt", "previous_response_id")
        ),
        Dialect.MESSAGES: _ANTHROPIC,
        Dialect.COUNT_TOKENS: _ANTHROPIC,
        Dialect.RERANK: Shape(("query", "documents"), ("documents",)),
        # vLLM has renamed these twice, and serves the old names too.
        Dialect.SCORE: Shape(
            ("text_1", "queries", "data_1", "text_2", "documents", "items", "data_2"),
            ("text_1", "queries", "data_1"),
        ),
        Dialect.TOKENIZE: Shape(("prompt", "messages"), ("prompt", "messages")),
        Dialect.DETOKENIZE: Shape(("tokens",), ("tokens",)),
        Dialect.IMAGES: Shape(("prompt",), ("prompt",)),
        Dialect.IMAGE_EDITS: Shape(("prompt",), ("image", "image[]"), form=True),
        Dialect.TRANSCRIPTIONS: _AUDIO,
        Dialect.TRANSLATIONS: _AUDIO,
        Dialect.SPEECH: Shape(("instructions", "input"), ("input",)),
        Dialect.MODELS: Shape(),
        Dialect.OTHER: Shape(),
    }
)

_POST: Mapping[tuple[str, ...], Dialect] = MappingProxyType(
    {
        ("chat", "completions"): Dialect.CHAT,
        ("completions",): Dialect.COMPLETIONS,
        ("embeddings",): Dialect.EMBEDDINGS,
        ("responses",): Dialect.RESPONSES,
        ("messages",): Dialect.MESSAGES,
        ("messages", "count_tokens"): Dialect.COUNT_TOKENS,
        ("rerank",): Dialect.RERANK,
        ("score",): Dialect.SCORE,
        ("pooling",): Dialect.POOLING,
        ("classify",): Dialect.POOLING,
        ("tokenize",): Dialect.TOKENIZE,
        ("detokenize",): Dialect.DETOKENIZE,
        ("images", "generations"): Dialect.IMAGES,
        ("images", "edits"): Dialect.IMAGE_EDITS,
        ("audio", "transcriptions"): Dialect.TRANSCRIPTIONS,
        ("audio", "translations"): Dialect.TRANSLATIONS,
        ("audio", "speech"): Dialect.SPEECH,
    }
)

_VERSION_TEXT = r"v\d+(?:(?:alpha|beta)\d*)?"
_VERSION = re.compile(_VERSION_TEXT)
_MODEL_IN_PATH = re.compile(
    rf"(?:/+(?!{_VERSION_TEXT}/)[^/?]+)*/+{_VERSION_TEXT}/+models/+([^/?][^?]*?)(?::[^:/?]*)?/*(?:\?.*)?"
)
"""The id is all up to the last colon: ids hold slashes, and some hold colons too."""


def dialect_of(method: str, path: str) -> Dialect:
    """Return the dialect of a request; `path` may carry a query.

    After a version segment (`/v1/…`, `/openai/v1/…`) the rest must be an endpoint exactly, so that
    `/v1/threads/x/messages` is not taken for Anthropic's. Without one, the end of the path decides
    (`/rerank`, `/openai/deployments/x/chat/completions`).
    """
    versioned, tail = _tail(path)
    if method == "GET":
        return Dialect.MODELS if tail[:1] == ("models",) else Dialect.OTHER
    if method != "POST":
        return Dialect.OTHER
    if versioned or tail in _POST:
        return _POST.get(tail, Dialect.OTHER)
    return _POST.get(tail[-2:]) or _POST.get(tail[-1:], Dialect.OTHER)


def model_id(path: str) -> str:
    """Return the id in `…/models/{id}`, which may hold slashes; empty for the list itself."""
    return unquote("/".join(_tail(path)[1][1:]))


class PathModel(NamedTuple):
    """A model that a path names: decoded, and `path[start:end]` as written."""

    model: str
    start: int
    end: int

    def renamed(self, path: str, model: str) -> str:
        """Return `path` with `model` in this one's place. Slashes stay slashes: edges refuse escaped ones."""
        return path[: self.start] + quote(model) + path[self.end :]


def path_model(method: str, path: str) -> PathModel | None:
    """Return the model of `POST …/v1/models/{id}` and `POST …/v1/models/{id}:{verb}`; `path` may carry a query.

    Servers of such paths (KServe's `:predict`, Google's `:generateContent`) do not look for a model in the body.
    """
    found = _MODEL_IN_PATH.fullmatch(path) if method == "POST" else None
    return None if found is None else PathModel(unquote(found[1]), found.start(1), found.end(1))


def is_versioned(path: str) -> bool:
    """Say whether `path` lies under a version segment such as `/v1`, where model APIs live."""
    return _tail(path)[0]


def error_form(dialect: Dialect) -> ErrorForm:
    """Return how `dialect` writes an error."""
    return SHAPES[dialect].error_form


def _tail(path: str) -> tuple[bool, tuple[str, ...]]:
    """Split `path` and drop everything up to its first version segment, if it has one."""
    segments = tuple(segment for segment in path.partition("?")[0].split("/") if segment)
    for index, segment in enumerate(segments):
        if _VERSION.fullmatch(segment):
            return True, segments[index + 1 :]
    return False, segments
