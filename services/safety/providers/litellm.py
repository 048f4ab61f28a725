"""LiteLLM's generic guardrail API: texts in, texts or a block back. Several vendors serve it.

Shape: BerriAI/litellm-docs `generic_guardrail_api.md`. `stream_holdback_chars` is a number or a list, by version.
"""

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

NAME = "litellm"
_BLOCK = "guardrail"
"""The category of its blocks. Its own reason may quote the text, so it is not repeated."""


class Generic(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters."""

    auth_header: str = "x-api-key"
    parameters: dict[str, object] = msgspec.field(default_factory=dict)
    """`additional_provider_specific_params`."""


class _Answer(msgspec.Struct):
    action: str
    texts: list[str] | None = None
    stream_holdback_chars: int | list[int] | None = None


class Shape:
    """`POST /beta/litellm_basic_guardrail_api`."""

    size = 100_000  # undocumented
    items = 256
    alone = False

    def __init__(self, settings: Generic) -> None:
        self._parameters = settings.parameters

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:
        """All texts of the exchange."""
        document: dict[str, object] = {
            "texts": [piece.value for piece in pieces],
            "input_type": "request" if context.direction is Direction.PROMPT else "response",
            "model": context.model,
            "litellm_call_id": context.request_id,
            "request_data": {},
            "structured_messages": [{"role": piece.role, "content": piece.value} for piece in pieces],
        }
        if self._parameters:
            document["additional_provider_specific_params"] = self._parameters
        return Call("/beta/litellm_basic_guardrail_api", document)

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002
        """Take an intervention without texts for a block: there is nothing to put in their place."""
        answer = decode(body, _Answer)
        if answer.action == "NONE":
            return self._held([CLEAN] * len(pieces), answer)
        if answer.action == "BLOCKED" or (answer.action == "GUARDRAIL_INTERVENED" and not answer.texts):
            return [blocked(_BLOCK)] * len(pieces)
        if answer.action != "GUARDRAIL_INTERVENED" or answer.texts is None:
            raise Malformed("action")
        changed = [masked(piece, text) for piece, text in zip(pieces, answer.texts, strict=True)]
        return self._held(changed, answer)

    def _held(self, verdicts: Sequence[ProviderVerdict], answer: _Answer) -> Sequence[ProviderVerdict]:
        wanted = answer.stream_holdback_chars
        if wanted is None:
            return verdicts
        sizes = wanted if isinstance(wanted, list) else [wanted] * len(verdicts)
        return [
            ProviderVerdict(verdict.action, replacements=verdict.replacements, holdback={0: size})
            for verdict, size in zip(verdicts, sizes, strict=True)
        ]


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, Generic)
    authorize = by_header(Secret.maybe(settings.auth), settings.auth_header, "")
    return Judging(NAME, HttpJudge(Shape(settings), settings, authorize), settings)
