"""Judge texts that come without a request around them, under a policy by name or by model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.openai.texts import Json, Path, Text
from services.safety.audit import Observer, Record, text_hash
from services.safety.judge import UNDECODABLE, Tally, judge
from services.safety.policy import Policies, Policy
from services.safety.providers.base import Context, Provider
from services.safety.remote import as_edited, ask, merge
from services.safety.verdict import UNJUDGED, Direction, Verdict

FAULTS = frozenset({UNJUDGED, UNDECODABLE})
"""Categories of a block that say nothing about the text."""


class Service(Protocol):
    """What the safety service has. Read at each call, so that a reload counts."""

    @property
    def policies(self) -> Policies:
        """All policies."""

    @property
    def observer(self) -> Observer:
        """Hears about verdicts."""

    @property
    def audit_key(self) -> bytes:
        """Keys hashes."""

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Remote judges by name."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, and what to put in place of texts."""

    verdict: Verdict
    edits: Mapping[Path, Json]

    @property
    def failed(self) -> bool:
        """Whether it blocks for want of a verdict."""
        return self.verdict.reason in FAULTS


class Engine:
    """The service's own judgement, for whoever asks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def policy(self, name: str) -> Policy | None:
        """Return the policy `name`, None if there is none."""
        return self._service.policies.by_name.get(name)

    def policy_of(self, model: str) -> Policy:
        """Return the policy of `model`."""
        return self._service.policies.choose(model)

    async def judge(self, texts: Sequence[Text], policy: Policy, context: Context) -> Judged:
        """Judge `texts`, rules first, then remote judges, and report it."""
        service, side, tally = self._service, policy.side(context.direction), Tally()
        edits = judge(texts, side, tally)
        if side.providers and not tally.block:
            shown = as_edited(texts, edits)
            edits |= merge(await ask(service.providers, side, shown, context), shown, side, tally)
        verdict = tally.verdict()
        joined = "\n".join(text.value for text in texts).encode("utf-8", "surrogatepass")
        digest = text_hash(service.audit_key, joined) if verdict.findings else ""
        reported = tuple(tally.reported)
        service.observer.verdict(
            Record(
                context.direction,
                verdict,
                policy.name,
                context.model,
                context.request_id,
                digest,
                reported=reported,
            )
        )
        return Judged(verdict, edits)


def context(direction: Direction, policy: Policy, model: str = "", request_id: str = "") -> Context:
    """Return what judges may know."""
    return Context(direction, model, policy.name, request_id)
