"""A guard model behind an OpenAI-compatible server, such as vLLM: a chat completion whose answer is a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.client import HttpJudge, by_header
from services.safety.providers.guard_formats import (
    Format,
    GptOssSafeguard,
    LlamaGuard,
    Qwen3Guard,
    ShieldGemma,
)
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import HttpSettings, Secret, read
from services.safety.providers.shape import Call, Malformed, decode
from services.safety.verdict import Direction

NAME = "guard-model"
_TEMPLATED = {"llama-guard", "qwen3guard"}
"""Whose chat template holds the policy; the others are told it."""


class GuardModel(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters."""

    model: str
    format: Literal["llama-guard", "qwen3guard", "shieldgemma", "gpt-oss-safeguard"]
    policy: str = ""
    """What is forbidden, in words; for shieldgemma and gpt-oss-safeguard, which need one."""
    threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    """Of shieldgemma: the probability of `Yes` that blocks."""
    controversial: Literal["block", "allow"] = "block"
    """Of qwen3guard: its middle grade."""

    def __post_init__(self) -> None:
        if (self.format in _TEMPLATED) == bool(self.policy):
            raise ValueError(f"policy: expected {'none' if self.policy else 'one'} for {self.format}")


class _Token(msgspec.Struct):
    token: str
    logprob: float


class _Top(msgspec.Struct):
    top_logprobs: list[_Token] = []


class _Logprobs(msgspec.Struct):
    content: list[_Top] | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    logprobs: _Logprobs | None = None


class _Answer(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]


class Shape:
    """`POST /v1/chat/completions`."""

    size = 16_000  # a guard's context is often 8,192 tokens, its own policy included
    items = 1
    alone = True

    def __init__(self, settings: GuardModel) -> None:
        self._model = settings.model
        self._format = _format(settings)

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:
        """One text as what the user or the assistant says."""
        extra = self._format.request(pieces[0].value, answer=context.direction is Direction.RESPONSE)
        return Call("/v1/chat/completions", {"model": self._model, "temperature": 0, **extra})

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002
        """Have the format read the text or the first token's alternatives."""
        choice = decode(body, _Answer).choices[0]
        tops = (choice.logprobs.content if choice.logprobs else None) or []
        first = {one.token: one.logprob for one in tops[0].top_logprobs} if tops else {}
        if choice.message.content is None and not first:
            raise Malformed("an answer without text")
        return [self._format.verdict(choice.message.content or "", first, pieces[0])]


def _format(settings: GuardModel) -> Format:
    match settings.format:
        case "llama-guard":
            return LlamaGuard()
        case "qwen3guard":
            return Qwen3Guard(settings.controversial == "block")
        case "shieldgemma":
            return ShieldGemma(settings.policy, settings.threshold)
        case "gpt-oss-safeguard":
            return GptOssSafeguard(settings.policy)


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, GuardModel)
    return Judging(
        NAME, HttpJudge(Shape(settings), settings, by_header(Secret.maybe(settings.auth))), settings
    )
