"""What was found and what is to be done about it, as plain frozen values."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from services.openai.texts import Path

UNJUDGED = "unjudged"
"""The category of a block because a judge failed, was late or gave up; of a finding: its rule is a check that failed."""


class Action(enum.StrEnum):
    """What a policy does about a finding, mildest first."""

    ALLOW = "allow"
    INSPECT = "inspect"
    """Report it; change nothing."""
    REDACT = "redact"
    BLOCK = "block"


class State(enum.StrEnum):
    """How much was judged. Only `JUDGED` means that what was not found is not there."""

    JUDGED = "judged"
    SKIPPED = "skipped"
    """Not judged by decision: unscannable by its nature, or exempt."""
    PARTIAL = "partial"
    """Judged in part."""
    TIMEOUT = "timeout"
    LIMIT = "limit"
    """Over a size that the judge accepts."""
    THROTTLED = "throttled"
    """Over a rate that the judge accepts: HTTP 429."""
    ERROR = "error"


class Confidence(enum.StrEnum):
    """How sure a finding is, in the three steps that most judges share."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Direction(enum.StrEnum):
    """Which way a text goes."""

    PROMPT = "prompt"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule's match in one text: characters `start` to `end`."""

    rule: str
    start: int
    end: int
    category: str
    confidence: Confidence = Confidence.HIGH


@dataclass(frozen=True, slots=True)
class Report:
    """A provider that was asked, and how it went."""

    provider: str
    state: State
    action: Action
    seconds: float
    failed_open: bool = False
    """It did not judge all, and the policy lets pass what it left."""


@dataclass(frozen=True, slots=True)
class Located:
    """A finding with the text it was found in and what its policy does about it."""

    finding: Finding
    path: Path
    action: Action


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement on one prompt or one answer. `state` is the worst of its parts."""

    action: Action
    state: State = State.JUDGED
    findings: tuple[Located, ...] = ()
    scanned_bytes: int = 0
    skipped_bytes: int = 0
    skipped: tuple[str, ...] = ()
    """Why something was not scanned: kinds of text, `encoded`, `undecodable`, `content_type`."""
    reason: str = ""
    """The category that decided, where one did."""
    exempt_bytes: int = 0
    """Words of the protocol, such as roles and types. Of a streamed answer they are not counted."""
    failed_open: tuple[str, ...] = ()
    """Why something passed that should have been judged, where the policy fails open. Providers have their own."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that found something, each once."""
        return tuple(dict.fromkeys(located.finding.rule for located in self.findings))
