"""What the listener reports about itself. An adapter counts it."""

from __future__ import annotations

import enum
from typing import Protocol


class Trouble(enum.StrEnum):
    """What went wrong with a server's messages. A closed set, fit for a metric label."""

    GAP = "gap"
    """Messages are missing; a replay may bring them."""
    LOST = "lost"
    """They did not come: the server's view began anew."""
    RESTART = "restart"
    """The server's process is another one: its view began anew."""
    FORMAT = "format"
    """A message could not be read: the server's view began anew."""


class ReplayOutcome(enum.StrEnum):
    """How a replay went."""

    COMPLETE = "complete"
    TIMED_OUT = "timeout"
    NOWHERE = "unavailable"
    """No port is known where one could be asked for."""


class Passed(enum.StrEnum):
    """Why an event did not count."""

    IGNORED = "ignored"
    """Another memory than the accelerator's, or a cache that does not hold whole prompts."""
    UNKNOWN = "unknown"
    """A kind of event that is not known."""


class Observer(Protocol):
    """Whoever wants to know."""

    def trouble(self, pool: str, kind: Trouble, count: int) -> None:
        """Note that this happened so many times more."""

    def replayed(self, pool: str, outcome: ReplayOutcome) -> None:
        """Note the end of a replay."""

    def passed_over(self, pool: str, why: Passed, count: int) -> None:
        """Note events that did not count."""
