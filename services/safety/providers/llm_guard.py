"""LLM Guard's API server: valid or not, a score per scanner, and a sanitized text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.client import HttpJudge, by_header
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import HttpSettings, Secret, read
from services.safety.providers.shape import CLEAN, Call, blocked, decode, flagged, masked
from services.safety.verdict import Direction

NAME = "llm-guard"


class LlmGuard(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters."""

    scanners_suppress: tuple[str, ...] = ()


class _Answer(msgspec.Struct):
    is_valid: bool
    scanners: dict[str, float] = {}
    sanitized_prompt: str | None = None
    sanitized_output: str | None = None


class Shape:
    """`POST /analyze/prompt` and `POST /analyze/output`."""

    size = 20_000  # undocumented; its models read 512 tokens at a time
    items = 1
    alone = True

    def __init__(self, settings: LlmGuard) -> None:
        self._suppress = list(settings.scanners_suppress)

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:
        """One text; an answer is judged without its prompt."""
        text = pieces[0].value
        if context.direction is Direction.PROMPT:
            return Call("/analyze/prompt", {"prompt": text, "scanners_suppress": self._suppress})
        return Call("/analyze/output", {"prompt": "", "output": text, "scanners_suppress": self._suppress})

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002
        """Invalid blocks, and the scanners with a score above 0 say why."""
        answer = decode(body, _Answer)
        if not answer.is_valid:
            names = [name for name, score in answer.scanners.items() if score > 0]
            return [flagged(NAME, names, pieces[0]) if names else blocked("invalid")]
        text = answer.sanitized_prompt if answer.sanitized_prompt is not None else answer.sanitized_output
        return [CLEAN if text is None else masked(pieces[0], text)]


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, LlmGuard)
    return Judging(
        NAME, HttpJudge(Shape(settings), settings, by_header(Secret.maybe(settings.auth))), settings
    )
