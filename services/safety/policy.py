"""A policy ready to run: per direction, which checks look at a text and what a finding means. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.safety.checks.base import Check
from services.safety.verdict import Action, Direction, Finding, State


class Combine(enum.StrEnum):
    """When the votes of several providers block."""

    ANY = "any"
    ALL = "all"
    WEIGHTED = "weighted"


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

    actions: tuple[tuple[str, Action], ...] = ()
    """Rule id or category → action; the first that fits decides."""
    checks: tuple[Check, ...] = ()
    """Checks whose findings change what leaves: a stream is held back for them."""
    watching: tuple[Check, ...] = ()
    """Checks that only report: nothing waits for them."""
    providers: tuple[Provider, ...] = ()
    combine: Combine = Combine.ANY
    threshold: float = 0.5
    """Share of the weights that blocks, for `Combine.WEIGHTED`."""
    deadline: float = 10.0
    """Seconds for all providers together."""
    fail_open: bool = False
    """What cannot be judged because something failed goes on."""
    allow_unscannable: bool = False
    """What no check can read goes on: images, token ids, encoded bodies, other content types."""
    drop_logprobs: bool = True
    message: str = "Blocked by the content policy: {category}."
    status: int = 403
    mask: str = "[REDACTED:{rule}]"
    hold_limit: int = 8192
    """Characters of one text that a stream holds for a match without a longest form."""
    at_limit: Action = Action.REDACT

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.checks or self.watching or self.providers)

    @property
    def enforces(self) -> bool:
        """Whether a finding can change what leaves."""
        return bool(self.checks or self.providers)

    def action(self, finding: Finding) -> Action:
        """Return what the policy does about `finding`."""
        for name, action in self.actions:
            if name in {finding.rule, finding.category}:
                return action
        return Action.ALLOW


@dataclass(frozen=True, slots=True)
class Policy:
    """What one model's prompts and answers may hold."""

    name: str
    prompt: Side
    response: Side

    def side(self, direction: Direction) -> Side:
        """Return the side of one direction."""
        return self.prompt if direction is Direction.PROMPT else self.response


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies and who gets which: the route's choice, else the model's, else the default."""

    by_name: Mapping[str, Policy]
    default: str
    by_model: Mapping[str, str]

    def choose(self, model: str, route: str | None = None) -> Policy:
        """Return the policy of a request; raise `LookupError` for a route that names none of ours."""
        return self.by_name[route or self.by_model.get(model, self.default)]


def worst(actions: Sequence[Action]) -> Action:
    """Return the strictest of `actions`; `Action.ALLOW` if there are none."""
    return max(actions, key=_ORDER.__getitem__, default=Action.ALLOW)


_ORDER = {action: rank for rank, action in enumerate(Action)}
