"""NeMo Guardrails' checks endpoint: rails over messages. Second-hand: its users' clients, not the server's source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.client import HttpJudge, by_header
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import HttpSettings, Secret, read
from services.safety.providers.shape import CLEAN, Call, Malformed, blocked, decode, flagged, unjudged
from services.safety.verdict import Direction, State

NAME = "nemo"
_BLOCKED = "blocked"
_ROLES = frozenset({"system", "user", "assistant", "tool"})


class Nemo(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters."""

    config_id: str
    model: str = ""
    """Sent as `model`; empty sends the request's."""


class _Rail(msgspec.Struct):
    status: str = ""


class _Message(msgspec.Struct):
    index: int
    rails: dict[str, str | _Rail] = {}


class _Answer(msgspec.Struct):
    status: str
    rails_status: dict[str, str | _Rail] = {}
    messages: list[_Message] = []


class Shape:
    """`POST /v1/guardrail/checks`."""

    size = 50_000  # undocumented
    items = 128
    alone = False

    def __init__(self, settings: Nemo) -> None:
        self._settings = settings

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:
        """All texts as messages; one without a role is the user's, or the assistant's in an answer."""
        author = "user" if context.direction is Direction.PROMPT else "assistant"
        messages = [
            {"role": piece.role if piece.role in _ROLES else author, "content": piece.value}
            for piece in pieces
        ]
        document = {
            "model": self._settings.model or context.model,
            "messages": messages,
            "guardrails": {"config_id": self._settings.config_id},
            "stream": False,
        }
        return Call("/v1/guardrail/checks", document)

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002
        """Refuse `modified`, which comes without the text that it means."""
        answer = decode(body, _Answer)
        if answer.status == "success":
            return [CLEAN] * len(pieces)
        if answer.status == "error":
            return [unjudged(State.ERROR)] * len(pieces)
        if answer.status != _BLOCKED:
            raise Malformed("status")
        verdicts = [CLEAN] * len(pieces)
        for message in answer.messages:
            if 0 <= message.index < len(pieces):
                verdicts[message.index] = flagged(NAME, _rails(message.rails), pieces[message.index])
        if all(verdict is CLEAN for verdict in verdicts):
            verdicts[-1] = blocked((_rails(answer.rails_status) or ["rails"])[0])
        return verdicts


def _rails(rails: Mapping[str, str | _Rail]) -> list[str]:
    return [
        name for name, rail in rails.items() if (rail if isinstance(rail, str) else rail.status) == _BLOCKED
    ]


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, Nemo)
    return Judging(
        NAME, HttpJudge(Shape(settings), settings, by_header(Secret.maybe(settings.auth))), settings
    )
