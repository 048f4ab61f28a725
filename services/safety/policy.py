"""A policy ready to run: per direction, which checks look at a text and what a finding means. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.openai.texts import Text
from services.safety.canonical.check import Canonical
from services.safety.checks.base import Check, PromptCheck
from services.safety.screen import Screen
from services.safety.verdict import UNJUDGED, Action, Confidence, Direction, Finding, State


class Combine(enum.StrEnum):
    """When the votes of several providers block."""

    ANY = "any"
    ALL = "all"
    WEIGHTED = "weighted"


class StreamMode(enum.StrEnum):
    """How a streamed answer is judged."""

    EXACT = "exact"
    """By rules, while it flows: no byte of a match leaves."""
    WINDOW = "window"
    """By rules as in `exact`, then by all of them and by providers, a window at a time: at most a window waits."""
    AUDIT = "audit"
    """It leaves as it came and is judged beside; what is found is reported."""


class Redaction(enum.StrEnum):
    """What stands in place of a redacted match."""

    MASK = "mask"
    HASH = "hash"
    """The mask with a keyed hash of what it hides: equal values can be told."""
    PLACEHOLDER = "placeholder"
    """A name that the answer may use; there it becomes what it stands for again. In prompts only."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """What to do about some findings."""

    names: frozenset[str]
    """Rule ids and categories."""
    action: Action
    roles: frozenset[str] = frozenset()
    """Whose texts it is about; empty means everybody's."""
    confidence: Confidence = Confidence.LOW
    """Findings less sure than this are not meant."""
    redaction: Redaction = Redaction.MASK

    def fits(self, finding: Finding, role: str) -> bool:
        """Whether it is about `finding` in a text of `role`."""
        if finding.rule not in self.names and finding.category not in self.names:
            return False
        return (not self.roles or role in self.roles) and _SURE[finding.confidence] >= _SURE[self.confidence]


_SURE = {confidence: rank for rank, confidence in enumerate(Confidence)}


@dataclass(frozen=True, slots=True)
class Provider:
    """A remote judge as one side of a policy uses it."""

    name: str
    timeout: float
    """Seconds."""
    weight: float = 1.0
    open_states: frozenset[State] = frozenset()
    """The states, other than `JUDGED`, that let pass."""


@dataclass(frozen=True, slots=True)
class Side:
    """One direction of a policy."""

    actions: tuple[Reaction, ...] = ()
    """The first that fits a finding decides."""
    checks: tuple[Check, ...] = ()
    """Checks whose findings change what leaves: a stream is held back for them."""
    watching: tuple[Check, ...] = ()
    """Checks that only report: nothing waits for them."""
    prompt_checks: tuple[PromptCheck, ...] = ()
    """Checks of an answer by its prompt."""
    screen: Screen | None = None
    """All of these at once, for whole texts."""
    providers: tuple[Provider, ...] = ()
    combine: Combine = Combine.ANY
    threshold: float = 0.5
    """Share of the weights that blocks, for `Combine.WEIGHTED`."""
    deadline: float = 10.0
    """Seconds for all providers together."""
    fail_open: bool = False
    """What cannot be judged because something failed goes on."""
    may_fail: frozenset[str] = frozenset()
    """Checks whose failure lets pass what they should have judged."""
    allow_unscannable: bool = False
    """What no check can read goes on: images, token ids, encoded bodies, other content types."""
    drop_logprobs: bool = True
    message: str = "Blocked by the content policy: {category}."
    status: int = 403
    plain_text: bool = False
    """Refusals as GKE's traffic extension sends them: JSON under `text/plain`."""
    mask: str = "[REDACTED:{rule}]"
    hold_limit: int = 8192
    """Characters of one text that a stream holds for a match without a longest form."""
    at_limit: Action = Action.REDACT
    stream: StreamMode = StreamMode.EXACT
    window: int = 200
    """Tokens of one text that wait for judges at most."""
    overlap: int = 50
    """Tokens at a window's end that wait for the next one too."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.checks or self.watching or self.providers or self.prompt_checks)

    @property
    def enforces(self) -> bool:
        """Whether a finding can change what leaves."""
        return bool(self.checks or self.providers or self.prompt_checks)

    def is_clean(self, text: str) -> bool:
        """Whether no check finds anything in the whole `text`."""
        if self.screen is not None and self.screen.covers is self.checks:
            return self.screen.is_clean(text)
        return not any(check.scan(text) for check in (*self.checks, *self.watching))

    def bound(self, prompt: Sequence[Text]) -> Side:
        """Return the side of the answer to `prompt`."""
        if not self.prompt_checks:
            return self
        bound = (Canonical(check.bind(prompt)) for check in self.prompt_checks)
        return replace(self, checks=(*self.checks, *bound), prompt_checks=())

    def reaction(self, finding: Finding, role: str = "") -> Reaction | None:
        """Return what the policy says about `finding` in a text of `role`, if anything."""
        return next((reaction for reaction in self.actions if reaction.fits(finding, role)), None)

    def action(self, finding: Finding, role: str = "") -> Action:
        """Return what the policy does about `finding` in a text of `role`."""
        if finding.category == UNJUDGED:
            return Action.INSPECT if finding.rule in self.may_fail else Action.BLOCK
        reaction = self.reaction(finding, role)
        return Action.ALLOW if reaction is None else reaction.action


@dataclass(frozen=True, slots=True)
class Policy:
    """What one model's prompts and answers may hold."""

    name: str
    prompt: Side
    response: Side
    shadow: str = ""
    """A policy that judges the same traffic without effect."""

    def side(self, direction: Direction) -> Side:
        """Return the side of one direction."""
        return self.prompt if direction is Direction.PROMPT else self.response


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies and who gets which: the route's choice, else the consumer's, else the model's, else the default."""

    by_name: Mapping[str, Policy]
    default: str
    by_model: Mapping[str, str]
    by_consumer: Mapping[str, str] = field(default_factory=dict)
    consumer_header: str = ""

    def choose(self, model: str, route: str | None = None, consumer: str | None = None) -> Policy:
        """Return the policy of a request; raise `LookupError` for a route that names none of ours."""
        own = self.by_consumer.get(consumer) if consumer is not None else None
        return self.by_name[route or own or self.by_model.get(model, self.default)]

    def shadow(self, policy: Policy) -> Policy | None:
        """Return the policy that judges beside `policy`."""
        return self.by_name[policy.shadow] if policy.shadow else None


def worst(actions: Sequence[Action]) -> Action:
    """Return the strictest of `actions`; `Action.ALLOW` if there are none."""
    return max(actions, key=_ORDER.__getitem__, default=Action.ALLOW)


_ORDER = {action: rank for rank, action in enumerate(Action)}
