"""OpenAI's moderations: one result per input, with categories and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.client import HttpJudge, by_header
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import HttpSettings, Secret, read
from services.safety.providers.shape import Call, decode, flagged

NAME = "openai-moderations"


class Moderations(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters."""

    url: str = "https://api.openai.com"
    model: str = "omni-moderation-latest"
    thresholds: dict[str, float] = msgspec.field(default_factory=dict)
    """Category → score from which it counts, in place of the service's own opinion on that category."""


class _Result(msgspec.Struct):
    flagged: bool
    categories: dict[str, bool | None]
    category_scores: dict[str, float | None] = {}


class _Answer(msgspec.Struct):
    results: list[_Result]


class Shape:
    """`POST /v1/moderations`."""

    size = 20_000  # undocumented; the model reads 32,768 tokens
    items = 32
    alone = True

    def __init__(self, settings: Moderations) -> None:
        self._model = settings.model
        self._thresholds = settings.thresholds

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:  # noqa: ARG002 - the interface
        """All texts as inputs of their own."""
        return Call("/v1/moderations", {"model": self._model, "input": [piece.value for piece in pieces]})

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002
        """Results stand in the order of the inputs."""
        results = decode(body, _Answer).results
        return [
            flagged("openai", self._names(result), piece)
            for result, piece in zip(results, pieces, strict=True)
        ]

    def _names(self, result: _Result) -> list[str]:
        names = [name for name, hit in result.categories.items() if hit and name not in self._thresholds]
        over = [
            name
            for name, least in self._thresholds.items()
            if (result.category_scores.get(name) or 0.0) >= least
        ]
        if result.flagged and not names and not over and not self._thresholds:
            return ["flagged"]
        return names + over


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, Moderations)
    return Judging(
        NAME, HttpJudge(Shape(settings), settings, by_header(Secret.maybe(settings.auth))), settings
    )
