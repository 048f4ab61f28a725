"""Presidio's analyzer: entities with spans and scores. Masking is ours, so its anonymizer is not asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.client import HttpJudge, by_header
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import HttpSettings, Secret, read
from services.safety.providers.shape import CLEAN, Call, category, decode
from services.safety.verdict import Action, Confidence, Finding

NAME = "presidio"
_HIGH, _MEDIUM = 0.85, 0.5  # of Presidio's scores: confirmed by context or checksum, and by pattern alone


class Presidio(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters."""

    language: str = "en"
    entities: tuple[str, ...] = ()
    """Empty looks for all that the server knows."""
    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5


class _Entity(msgspec.Struct):
    entity_type: str
    start: int
    end: int
    score: float


class Shape:
    """`POST /analyze`."""

    size = 100_000  # spaCy refuses a million
    items = 1
    alone = True

    def __init__(self, settings: Presidio) -> None:
        self._settings = settings

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:  # noqa: ARG002 - the interface
        """One text."""
        document: dict[str, object] = {
            "text": pieces[0].value,
            "language": self._settings.language,
            "score_threshold": self._settings.score_threshold,
        }
        if self._settings.entities:
            document["entities"] = list(self._settings.entities)
        return Call("/analyze", document)

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002
        """Every entity is personal data at its place."""
        found = tuple((0, _finding(entity)) for entity in decode(body, list[_Entity]))
        return [ProviderVerdict(Action.REDACT, findings=found, reason="pii") if found else CLEAN]


def _finding(entity: _Entity) -> Finding:
    confidence = Confidence.HIGH if entity.score >= _HIGH else Confidence.MEDIUM
    if entity.score < _MEDIUM:
        confidence = Confidence.LOW
    return Finding(f"{NAME}/{category(entity.entity_type)}", entity.start, entity.end, "pii", confidence)


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, Presidio)
    return Judging(
        NAME, HttpJudge(Shape(settings), settings, by_header(Secret.maybe(settings.auth))), settings
    )
