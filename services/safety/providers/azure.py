"""Azure AI Content Safety: harm categories with severities, and Prompt Shields against injection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.client import HttpJudge, by_header
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import HttpSettings, Secret, read
from services.safety.providers.shape import Call, Malformed, category, decode, flagged
from services.safety.verdict import Action, Confidence, Finding

CONTENT = "azure-content-safety"
SHIELDS = "azure-prompt-shields"
_KEY = "ocp-apim-subscription-key"
_CHARACTERS = 10_000  # of one call, documented
_DOCUMENT_ROLES = frozenset({"tool", "function"})
_MEDIUM, _HIGH = 4, 6


class Azure(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of both. `url` is the resource's endpoint."""

    api_version: str = "2024-09-01"


class ContentSafety(Azure, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters."""

    severity: Annotated[int, msgspec.Meta(ge=1, le=7)] = 4
    """From which a category counts; the service gives 0, 2, 4 or 6 unless asked for eight levels."""
    severities: dict[str, int] = msgspec.field(default_factory=dict)
    """Category → severity, where it differs: Hate, SelfHarm, Sexual, Violence."""
    blocklists: tuple[str, ...] = ()


class _Match(msgspec.Struct):
    blocklistName: str  # noqa: N815 - the service's names, here and below


class _Analysis(msgspec.Struct):
    category: str
    severity: int | None = None


class _ContentAnswer(msgspec.Struct):
    categoriesAnalysis: list[_Analysis]  # noqa: N815
    blocklistsMatch: list[_Match] = []  # noqa: N815


class ContentShape:
    """`text:analyze`."""

    size = _CHARACTERS
    items = 1
    alone = True

    def __init__(self, settings: ContentSafety) -> None:
        self._settings = settings

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:  # noqa: ARG002 - the interface
        """One text."""
        document: dict[str, object] = {"text": pieces[0].value}
        if self._settings.blocklists:
            document |= {"blocklistNames": list(self._settings.blocklists), "haltOnBlocklistHit": False}
        return Call(f"/contentsafety/text:analyze?api-version={self._settings.api_version}", document)

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002
        """Categories at or over their severity, and lists that matched."""
        answer = decode(body, _ContentAnswer)
        found = [self._finding(one, pieces[0]) for one in answer.categoriesAnalysis if self._counts(one)]
        lists = [match.blocklistName for match in answer.blocklistsMatch]
        found += [finding for _, finding in flagged("azure", lists, pieces[0]).findings]
        if not found:
            return [ProviderVerdict(Action.ALLOW)]
        findings = tuple((0, finding) for finding in found)
        return [ProviderVerdict(Action.BLOCK, findings=findings, reason=found[0].category)]

    def _counts(self, one: _Analysis) -> bool:
        least = self._settings.severities.get(one.category, self._settings.severity)
        return (one.severity or 0) >= least

    def _finding(self, one: _Analysis, piece: Piece) -> Finding:
        severity = one.severity or 0
        confidence = Confidence.HIGH if severity >= _HIGH else Confidence.MEDIUM
        if severity < _MEDIUM:
            confidence = Confidence.LOW
        name = category(one.category)
        return Finding(f"azure/{name}", 0, len(piece.value), name, confidence)


class _Attack(msgspec.Struct):
    attackDetected: bool  # noqa: N815


class _ShieldAnswer(msgspec.Struct):
    userPromptAnalysis: _Attack | None = None  # noqa: N815
    documentsAnalysis: list[_Attack] | None = None  # noqa: N815


class ShieldShape:
    """`text:shieldPrompt`: what tools return is a document, all else the user's prompt."""

    size = _CHARACTERS
    items = 1
    alone = True

    def __init__(self, settings: Azure) -> None:
        self._version = settings.api_version

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:  # noqa: ARG002 - the interface
        """One text in the one place or the other."""
        text = pieces[0].value
        document = pieces[0].role in _DOCUMENT_ROLES
        return Call(
            f"/contentsafety/text:shieldPrompt?api-version={self._version}",
            {"userPrompt": "" if document else text, "documents": [text] if document else []},
        )

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002
        """Either analysis must be there."""
        answer = decode(body, _ShieldAnswer)
        attacks = [one for one in (answer.userPromptAnalysis, *(answer.documentsAnalysis or ())) if one]
        if not attacks:
            raise Malformed("no analysis")
        names = ["injection"] if any(attack.attackDetected for attack in attacks) else []
        return [flagged("azure", names, pieces[0])]


def make_content(parameters: Mapping[str, object]) -> Provider:
    """Make the provider of harm categories."""
    settings = read(parameters, ContentSafety)
    authorize = by_header(Secret.maybe(settings.auth), _KEY, "")
    return Judging(CONTENT, HttpJudge(ContentShape(settings), settings, authorize), settings)


def make_shields(parameters: Mapping[str, object]) -> Provider:
    """Make the provider of Prompt Shields."""
    settings = read(parameters, Azure)
    authorize = by_header(Secret.maybe(settings.auth), _KEY, "")
    return Judging(SHIELDS, HttpJudge(ShieldShape(settings), settings, authorize), settings)
