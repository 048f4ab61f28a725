"""The guardrail webhook of agentgateway, kgateway and Gloo: messages or choices in; pass, mask or reject back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.client import HttpJudge, by_header
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import HttpSettings, Secret, read
from services.safety.providers.shape import CLEAN, Call, Malformed, blocked, decode, masked
from services.safety.verdict import Direction

NAME = "webhook"
_BLOCK = "webhook"
"""The category of its blocks: its reason is free text, which may quote the prompt."""


class Webhook(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters."""


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Message


class _Body(msgspec.Struct):
    messages: list[_Message] | None = None
    choices: list[_Choice] | None = None

    def texts(self) -> list[str]:
        if self.messages is not None:
            return [message.content for message in self.messages]
        if self.choices is not None:
            return [choice.message.content for choice in self.choices]
        raise Malformed("body")


class _Action(msgspec.Struct):
    """Untagged: a body that is text rejects, a body that is an object masks, none passes."""

    body: str | _Body | None = None


class _Answer(msgspec.Struct):
    action: _Action


class Shape:
    """`POST /request` and `POST /response`."""

    size = 100_000  # undocumented
    items = 256
    alone = False

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:
        """Every text as a message or a choice, tool calls too: the contract has no other place for them."""
        prompt = context.direction is Direction.PROMPT
        author = "user" if prompt else "assistant"
        messages = [{"role": piece.role or author, "content": piece.value} for piece in pieces]
        if prompt:
            return Call("/request", {"body": {"messages": messages}})
        return Call("/response", {"body": {"choices": [{"message": message} for message in messages]}})

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002
        """Take masked texts in order; every one must come back."""
        answer = decode(body, _Answer).action.body
        if answer is None:
            return [CLEAN] * len(pieces)
        if isinstance(answer, str):
            return [blocked(_BLOCK)] * len(pieces)
        return [masked(piece, text) for piece, text in zip(pieces, answer.texts(), strict=True)]


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, Webhook)
    return Judging(NAME, HttpJudge(Shape(), settings, by_header(Secret.maybe(settings.auth))), settings)
