"""Google Model Armor over REST: `sanitizeUserPrompt` and `sanitizeModelResponse` of one template.

Shapes: googleapis `google/cloud/modelarmor/v1/service.proto`. A filter that did not run is `SKIPPED`, never clean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import msgspec

from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.client import HttpJudge, by_header
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece, worst_state
from services.safety.providers.settings import HttpSettings, Secret, read
from services.safety.providers.shape import Call, Malformed, category, decode
from services.safety.verdict import Action, Confidence, Direction, Finding, State

NAME = "model-armor"
_TEMPLATE = r"^projects/[^/]+/locations/[^/]+/templates/[^/]+$"
_MATCH = "MATCH_FOUND"
_CONFIDENCE = {
    "LOW_AND_ABOVE": Confidence.LOW,
    "MEDIUM_AND_ABOVE": Confidence.MEDIUM,
    "HIGH": Confidence.HIGH,
}
_STATES = {"SUCCESS": State.JUDGED, "PARTIAL": State.PARTIAL, "FAILURE": State.ERROR}


class ModelArmor(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters. `url` is regional: https://modelarmor.LOCATION.rep.googleapis.com."""

    template: Annotated[str, msgspec.Meta(pattern=_TEMPLATE)]
    """projects/P/locations/L/templates/T."""
    response_template: Annotated[str, msgspec.Meta(pattern=_TEMPLATE)] | None = None
    """For answers, where it is another."""


class _Range(msgspec.Struct):
    start: int = 0  # left out by the JSON form when 0; int64 comes as a string
    end: int = 0


class _Location(msgspec.Struct):
    codepointRange: _Range | None = None  # noqa: N815 - the service's names, here and below


class _Found(msgspec.Struct):
    infoType: str = ""  # noqa: N815
    location: _Location | None = None


class _Data(msgspec.Struct):
    text: str = ""


class _Filter(msgspec.Struct):
    """Any filter's result; each uses some of the fields."""

    executionState: str = "EXECUTION_SUCCESS"  # noqa: N815
    matchState: str = ""  # noqa: N815
    confidenceLevel: str = ""  # noqa: N815
    raiFilterTypeResults: dict[str, _Filter] = {}  # noqa: N815
    inspectResult: _Filter | None = None  # noqa: N815
    deidentifyResult: _Filter | None = None  # noqa: N815
    findings: list[_Found] = []
    data: _Data | None = None

    def states(self) -> Iterator[State]:
        yield State.JUDGED if self.executionState == "EXECUTION_SUCCESS" else State.SKIPPED
        for inner in (self.inspectResult, self.deidentifyResult):
            if inner is not None:
                yield from inner.states()


class _Result(msgspec.Struct):
    filterMatchState: str  # noqa: N815
    invocationResult: str = "SUCCESS"  # noqa: N815
    filterResults: dict[str, dict[str, _Filter]] = {}  # noqa: N815
    """Filter → wrapper → result. The wrapper's name is not read: csam's has been misread for its doubled `Filter`."""


class _Answer(msgspec.Struct):
    sanitizationResult: _Result  # noqa: N815


class Shape:
    """Sanitize calls."""

    size = 60_000  # prompt injection, the smallest: 65,536 tokens; a token is at least a character
    items = 1
    alone = True

    def __init__(self, settings: ModelArmor) -> None:
        response = settings.response_template or settings.template
        self._paths: Mapping[Direction, str] = {
            Direction.PROMPT: f"/v1/{settings.template}:sanitizeUserPrompt",
            Direction.RESPONSE: f"/v1/{response}:sanitizeModelResponse",
        }

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:
        """One text: joined conversations lose what is said by whom."""
        prompt = context.direction is Direction.PROMPT
        field = "userPromptData" if prompt else "modelResponseData"
        return Call(self._paths[context.direction], {field: {"text": pieces[0].value}})

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002 - the interface
        """Put filters' matches together."""
        result = _convert(body)
        filters = [(name, one) for name, wrapped in result.filterResults.items() for one in wrapped.values()]
        state = worst_state(
            [
                _STATES.get(result.invocationResult, State.ERROR),
                *(s for _, one in filters for s in one.states()),
            ]
        )
        if result.filterMatchState != _MATCH:
            return [ProviderVerdict(Action.ALLOW, state)]
        text = _deidentified(filters)
        findings = tuple(found for name, one in filters for found in _findings(name, one, pieces[0]))
        if text is not None and not findings:
            return [ProviderVerdict(Action.REDACT, state, replacements={0: text}, reason="sdp")]
        reason = findings[0].category if findings else "match"
        return [ProviderVerdict(Action.BLOCK, state, tuple((0, found) for found in findings), reason=reason)]


def _convert(body: bytes) -> _Result:
    document = decode(body, dict[str, object])
    try:
        return msgspec.convert(document, _Answer, strict=False).sanitizationResult  # int64 are strings
    except msgspec.ValidationError as error:
        raise Malformed(str(error)) from error


def _deidentified(filters: Sequence[tuple[str, _Filter]]) -> str | None:
    for _, one in filters:
        inner = one.deidentifyResult
        if inner is not None and inner.matchState == _MATCH and inner.data is not None:
            return inner.data.text
    return None


def _findings(name: str, one: _Filter, piece: Piece) -> Iterator[Finding]:
    confidence = _CONFIDENCE.get(one.confidenceLevel, Confidence.HIGH)
    if one.raiFilterTypeResults:
        for kind, inner in one.raiFilterTypeResults.items():
            yield from _findings(kind, inner, piece)
    elif one.inspectResult is not None:
        yield from _inspected(one.inspectResult, piece)
    elif one.matchState == _MATCH:
        yield Finding(f"{NAME}/{category(name)}", 0, len(piece.value), category(name), confidence)


def _inspected(result: _Filter, piece: Piece) -> Iterator[Finding]:
    if result.matchState != _MATCH:
        return
    for found in result.findings or [_Found("sdp")]:
        span = found.location.codepointRange if found.location else None
        start, end = (span.start, span.end) if span and span.end else (0, len(piece.value))
        yield Finding(f"{NAME}/{category(found.infoType)}", start, end, "sdp")


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, ModelArmor)
    return Judging(
        NAME, HttpJudge(Shape(settings), settings, by_header(Secret.maybe(settings.auth))), settings
    )
