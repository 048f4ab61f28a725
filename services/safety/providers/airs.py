"""Palo Alto Prisma AIRS, the synchronous scan: an action, what was detected, and masked data.

A scan that ran into its own timeout or error says so beside `action: allow`; neither is clean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.client import HttpJudge, by_header
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import HttpSettings, Secret, read
from services.safety.providers.shape import CLEAN, Call, Malformed, blocked, decode, flagged, masked, unjudged
from services.safety.verdict import Direction, State

NAME = "airs"


class Airs(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters."""

    url: str = "https://service.api.aisecurity.paloaltonetworks.com"
    profile_name: str
    app_name: str = "inference-gateway"


class _Masked(msgspec.Struct):
    data: str = ""


class _Answer(msgspec.Struct):
    action: str
    category: str = ""
    timeout: bool = False
    error: bool = False
    prompt_detected: dict[str, bool] = {}
    response_detected: dict[str, bool] = {}
    prompt_masked_data: _Masked | None = None
    response_masked_data: _Masked | None = None


class Shape:
    """`POST /v1/scan/sync/request`."""

    size = 50_000  # undocumented in characters; a request may have 2 MB
    items = 1
    alone = True

    def __init__(self, settings: Airs) -> None:
        self._settings = settings

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:
        """One prompt or one response."""
        field = "prompt" if context.direction is Direction.PROMPT else "response"
        document = {
            "tr_id": context.request_id,
            "ai_profile": {"profile_name": self._settings.profile_name},
            "metadata": {"app_name": self._settings.app_name, "ai_model": context.model},
            "contents": [{field: pieces[0].value}],
        }
        return Call("/v1/scan/sync/request", document)

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:
        """Block, else unfinished, else masked, else clean."""
        answer = decode(body, _Answer)
        prompt = context.direction is Direction.PROMPT
        if answer.action == "block":
            detected = answer.prompt_detected if prompt else answer.response_detected
            names = [name for name, hit in detected.items() if hit]
            return [flagged(NAME, names, pieces[0]) if names else blocked(answer.category or "blocked")]
        if answer.action != "allow":
            raise Malformed("action")
        if answer.timeout or answer.error:
            return [unjudged(State.TIMEOUT if answer.timeout else State.PARTIAL)]
        data = answer.prompt_masked_data if prompt else answer.response_masked_data
        return [masked(pieces[0], data.data, "dlp") if data and data.data else CLEAN]


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, Airs)
    authorize = by_header(Secret.maybe(settings.auth), "x-pan-token", "")
    return Judging(NAME, HttpJudge(Shape(settings), settings, authorize), settings)
