"""The interface of a remote judge, wide enough for those that flag, those that mask and those that score.

Model Armor answers per filter with a confidence, OpenAI's moderations per input with scores, LiteLLM's generic
guardrail with texts in place of those it got, ours in `protos/` with findings: all of it fits a `ProviderVerdict`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.openai.texts import Text
from services.safety.verdict import Action, Direction, Finding, State


@dataclass(frozen=True, slots=True)
class Context:
    """What a judge may know about the exchange besides its texts."""

    direction: Direction
    model: str
    policy: str
    request_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Only those that the configuration lets pass."""
    final: bool = True
    """False: the texts are the beginning of a stream that goes on."""


@dataclass(frozen=True, slots=True)
class ProviderVerdict:
    """A judge's answer, in our words."""

    action: Action
    """Its own opinion. A finding that the policy names is treated as the policy says instead."""
    state: State = State.JUDGED
    findings: tuple[tuple[int, Finding], ...] = ()
    """Index of the text and what is in it. A judge without spans reports the whole text."""
    replacements: Mapping[int, str] = field(default_factory=dict)
    """Index of the text → the masked text that a judge gives instead of spans."""
    reason: str = ""
    """The judge's own category, for the message and the audit record."""
    holdback: Mapping[int, int] = field(default_factory=dict)
    """Index of the text → characters at its end that a stream should not release yet."""


class Provider(Protocol):
    """Judges texts somewhere else. One instance per configured provider, shared by all exchanges."""

    async def judge(self, texts: Sequence[Text], context: Context, deadline: float) -> ProviderVerdict:
        """Judge `texts` together before `deadline` (seconds on the event loop's clock).

        What keeps a judge from judging is a `State`, never an exception and never `Action.ALLOW` with `JUDGED`:
        too long is `LIMIT`, also 429; too late `TIMEOUT`; refused, broken or unreachable `ERROR`; judged in part
        `PARTIAL`; a filter that did not run `SKIPPED`.
        """

    async def close(self) -> None:
        """Give back connections."""
