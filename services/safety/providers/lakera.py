"""Lakera Guard v2: a flag, the detectors that raised it, and spans of personal data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.client import HttpJudge, by_header
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import HttpSettings, Secret, read
from services.safety.providers.shape import CLEAN, Call, blocked, category, decode, flagged
from services.safety.verdict import Action, Direction, Finding

NAME = "lakera"
_PII = "pii/"


class Lakera(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters."""

    url: str = "https://api.lakera.ai"
    project_id: str = ""
    """Chooses detectors and thresholds; empty is the account's default."""


class _Span(msgspec.Struct):
    start: int
    end: int
    detector_type: str


class _Detector(msgspec.Struct):
    detector_type: str
    detected: bool


class _Answer(msgspec.Struct):
    flagged: bool
    payload: list[_Span] = []
    breakdown: list[_Detector] = []


class Shape:
    """`POST /v2/guard`, one message at a time: spans count from the message's beginning."""

    size = 50_000  # undocumented
    items = 1
    alone = True

    def __init__(self, settings: Lakera) -> None:
        self._project = settings.project_id

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:
        """Put one message in its role."""
        author = "user" if context.direction is Direction.PROMPT else "assistant"
        document: dict[str, object] = {
            "messages": [{"role": pieces[0].role or author, "content": pieces[0].value}],
            "payload": True,
            "breakdown": True,
        }
        if self._project:
            document["project_id"] = self._project
        return Call("/v2/guard", document)

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002
        """Personal data alone, with spans, can be masked; anything else that is flagged blocks."""
        answer = decode(body, _Answer)
        if not answer.flagged:
            return [CLEAN]
        kinds = [one.detector_type for one in answer.breakdown if one.detected]
        spans = [span for span in answer.payload if span.detector_type.startswith(_PII)]
        if spans and all(kind.startswith(_PII) for kind in kinds):
            found = tuple(
                (0, Finding(f"{NAME}/{category(span.detector_type)}", span.start, span.end, "pii"))
                for span in spans
            )
            return [ProviderVerdict(Action.REDACT, findings=found, reason="pii")]
        return [flagged(NAME, kinds, pieces[0]) if kinds else blocked("flagged")]


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, Lakera)
    return Judging(
        NAME, HttpJudge(Shape(settings), settings, by_header(Secret.maybe(settings.auth))), settings
    )
