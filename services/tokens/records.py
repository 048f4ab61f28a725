"""What becomes of prompts, as plain values for whoever counts them."""

from __future__ import annotations

import enum
from typing import Protocol


class Found(enum.StrEnum):
    """What was known of a prompt in tokens when its request went on. A closed set, fit for a metric label."""

    ALL = "all"
    BEGINNING = "beginning"
    NOTHING = "nothing"
    UNSUPPORTED = "unsupported"
    """No tokens can be had: another API, images, several prompts."""


class Outcome(enum.StrEnum):
    """What became of a prompt that was to be tokenized."""

    TOKENIZED = "tokenized"
    FAILED = "failed"
    DROPPED = "dropped"
    """Too many others were waiting."""


class Observer(Protocol):
    """Whoever wants to know."""

    def found(self, model: str, found: Found) -> None:
        """Note a request."""

    def tokenized(self, model: str, outcome: Outcome, seconds: float) -> None:
        """Note a prompt, and how long its tokens took, the wait for a turn left out."""
