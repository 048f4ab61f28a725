"""What the picker tells of itself on the request path, and what it asks. Every method returns at once."""

from __future__ import annotations

from typing import Protocol

from services.epp.inflight import Entry
from services.epp.records import Ended, Finished


class Listener(Protocol):
    """Hears what happens in one pool. Losing what it was told must do no harm."""

    def picked(self, entry: Entry) -> None:
        """Hear that `entry` counts from now on."""

    def moved(self, entry: Entry, slot: int, prompt_tokens: int) -> None:
        """Hear that `entry` went to `slot` instead, which has to compute `prompt_tokens` of it."""

    def finished(self, entry: Entry, done: Finished) -> None:
        """Hear how a request went that is still counted."""


class Unheard:
    """Nobody listens."""

    def picked(self, entry: Entry) -> None:
        """Tell nobody."""

    def moved(self, entry: Entry, slot: int, prompt_tokens: int) -> None:
        """Tell nobody."""

    def finished(self, entry: Entry, done: Finished) -> None:
        """Tell nobody."""


class SharedState(Protocol):
    """The other replicas."""

    def pass_on(self, end: Ended) -> bool:
        """Tell the replica that picked it how a request ended; False when no other replica that lives did."""


class Alone:
    """There are none."""

    def pass_on(self, end: Ended) -> bool:  # noqa: ARG002 - nobody is told
        """Return False."""
        return False
