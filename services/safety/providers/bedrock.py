"""Amazon Bedrock's ApplyGuardrail. Signed by us; an intervention without assessments is a block all the same."""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.client import Authorize, HttpJudge
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import Auth, HttpSettings, Secret, read
from services.safety.providers.shape import Call, Malformed, category, decode
from services.safety.providers.sigv4 import Credentials, Scope, sign
from services.safety.verdict import Action, Confidence, Direction, Finding, State

NAME = "bedrock"
_CONFIDENCE = {"LOW": Confidence.LOW, "MEDIUM": Confidence.MEDIUM, "HIGH": Confidence.HIGH}


class Bedrock(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters. `url` is https://bedrock-runtime.REGION.amazonaws.com.

    `auth.file` is a file of AWS's shared credentials; without `auth`, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN are read at start.
    """

    region: str
    guardrail: str
    version: str = "DRAFT"
    profile: str = "default"
    """Section of the credentials file."""


class _Item(msgspec.Struct):
    """A topic, filter, word, entity or regex that was found."""

    action: str = ""
    type: str = ""
    name: str = ""
    confidence: str = ""


class _Assessment(msgspec.Struct):
    topicPolicy: dict[str, list[_Item]] = {}  # noqa: N815 - the service's names, here and below
    contentPolicy: dict[str, list[_Item]] = {}  # noqa: N815
    wordPolicy: dict[str, list[_Item]] = {}  # noqa: N815
    sensitiveInformationPolicy: dict[str, list[_Item]] = {}  # noqa: N815

    def items(self) -> Iterator[tuple[str, _Item]]:
        policies = {
            "topic": self.topicPolicy,
            "content": self.contentPolicy,
            "word": self.wordPolicy,
            "pii": self.sensitiveInformationPolicy,
        }
        for kind, lists in policies.items():
            for items in lists.values():
                yield from ((kind, item) for item in items)


class _Output(msgspec.Struct):
    text: str


class _Characters(msgspec.Struct):
    guarded: int = 0
    total: int = 0


class _Coverage(msgspec.Struct):
    textCharacters: _Characters = msgspec.field(default_factory=_Characters)  # noqa: N815


class _Answer(msgspec.Struct):
    action: str
    outputs: list[_Output] = []
    assessments: list[_Assessment] = []
    guardrailCoverage: _Coverage = msgspec.field(default_factory=_Coverage)  # noqa: N815


class Shape:
    """`POST /guardrail/ID/version/V/apply`."""

    size = 25_000  # 25 text units of 1,000 characters, the default quota of one call
    items = 1
    alone = True

    def __init__(self, settings: Bedrock) -> None:
        self._path = f"/guardrail/{quote(settings.guardrail, safe='')}/version/{settings.version}/apply"

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:
        """One text."""
        source = "INPUT" if context.direction is Direction.PROMPT else "OUTPUT"
        return Call(self._path, {"source": source, "content": [{"text": {"text": pieces[0].value}}]})

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:  # noqa: ARG002
        """Anonymised entities alone are a mask; anything else that intervenes blocks."""
        answer = decode(body, _Answer)
        characters = answer.guardrailCoverage.textCharacters
        state = State.PARTIAL if characters.guarded < characters.total else State.JUDGED
        if answer.action == "NONE":
            return [ProviderVerdict(Action.ALLOW, state)]
        if answer.action != "GUARDRAIL_INTERVENED":
            raise Malformed("action")
        found = [(kind, item) for one in answer.assessments for kind, item in one.items()]
        acted = [(kind, item) for kind, item in found if item.action != "NONE"]
        if acted and answer.outputs and all(item.action == "ANONYMIZED" for _, item in acted):
            return [
                ProviderVerdict(Action.REDACT, state, replacements={0: answer.outputs[0].text}, reason="pii")
            ]
        findings = tuple((0, _finding(kind, item, pieces[0])) for kind, item in acted)
        reason = findings[0][1].category if findings else "guardrail"
        return [ProviderVerdict(Action.BLOCK, state, findings, reason=reason)]


def _finding(kind: str, item: _Item, piece: Piece) -> Finding:
    name = category(item.name or item.type or kind)
    confidence = _CONFIDENCE.get(item.confidence, Confidence.HIGH)
    return Finding(
        f"{NAME}/{name}", 0, len(piece.value), name if kind in {"topic", "content"} else kind, confidence
    )


def credentials(auth: Auth | None, profile: str) -> Callable[[], Credentials]:
    """Return what gives the credentials as they are now; raise `ValueError` at once if there are none."""
    if auth is None:
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        access, secret, token = (os.environ.get(name, "") for name in names)
        if not access or not secret:
            raise ValueError(
                "auth: neither auth.file nor AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are set"
            )
        fixed = Credentials(access, secret, token)
        return lambda: fixed
    if auth.file is None:
        raise ValueError("auth.env: expected auth.file, or no auth for AWS's own variables")
    content = Secret(auth)
    _section(content(), profile)
    return lambda: _section(content(), profile)


def _section(text: str, profile: str) -> Credentials:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        section = parser[profile]
        return Credentials(
            section["aws_access_key_id"],
            section["aws_secret_access_key"],
            section.get("aws_session_token", ""),
        )
    except (configparser.Error, KeyError) as error:
        raise ValueError(f"auth.file: no credentials of profile {profile!r}") from error


def authorize(settings: Bedrock, clock: Callable[[], datetime]) -> Authorize:
    """Return the signer of calls to `settings.region`."""
    who = credentials(settings.auth, settings.profile)
    scope = Scope(settings.region, "bedrock")

    def signed(url: str, body: bytes) -> Mapping[str, str]:
        return sign("POST", url, body, {"content-type": "application/json"}, who(), scope, clock())

    return signed


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, Bedrock)
    signer = authorize(settings, lambda: datetime.now(UTC))
    return Judging(NAME, HttpJudge(Shape(settings), settings, signer), settings)
