"""What the picker tells of itself on the request path, and what it asks. Every method returns at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from services.epp.cost.lesson import Lesson
from services.epp.endpoints import Metrics
from services.epp.inflight import Entry
from services.epp.records import Ended


class Band(NamedTuple):
    """What waits of one priority at a pool's gate."""

    priority: int
    requests: int
    bytes: int


class Listener(Protocol):
    """Hears what happens in one pool. Losing what it was told must do no harm."""

    def picked(self, entry: Entry) -> None:
        """Hear that `entry` counts from now on."""

    def moved(self, entry: Entry, slot: int, prompt_tokens: int) -> None:
        """Hear that `entry` went to `slot` instead, which has to compute `prompt_tokens` of it."""

    def learnt(self, entry: Entry, taught: Lesson) -> None:
        """Hear what a request taught that is still counted."""

    def observed(self, address: str, metrics: Metrics) -> None:
        """Hear what a server reports that was asked from here."""

    def missed(self, address: str) -> None:
        """Hear that it did not answer."""

    def queued(self, bands: Sequence[Band]) -> None:
        """Hear what waits at the gate from now on."""

    def served(self, priority: int, flow: str, tokens: int) -> None:
        """Hear that a request that waited had its turn."""


class Unheard:
    """Nobody listens."""

    def picked(self, entry: Entry) -> None:
        """Tell nobody."""

    def moved(self, entry: Entry, slot: int, prompt_tokens: int) -> None:
        """Tell nobody."""

    def learnt(self, entry: Entry, taught: Lesson) -> None:
        """Tell nobody."""

    def observed(self, address: str, metrics: Metrics) -> None:
        """Tell nobody."""

    def missed(self, address: str) -> None:
        """Tell nobody."""

    def queued(self, bands: Sequence[Band]) -> None:
        """Tell nobody."""

    def served(self, priority: int, flow: str, tokens: int) -> None:
        """Tell nobody."""


class Turns(Protocol):
    """Shares out who asks which server for its metrics."""

    def turn(self, address: str, interval: float) -> bool:
        """Say whether to ask the server at `address` now; `interval`: seconds between two questions."""


class SharedState(Protocol):
    """The other replicas."""

    def pass_on(self, end: Ended) -> bool:
        """Tell the replica that picked it how a request ended; False when no other replica that lives did."""


class Alone:
    """There are none."""

    def turn(self, address: str, interval: float) -> bool:  # noqa: ARG002 - whichever it is
        """Return True."""
        return True

    def pass_on(self, end: Ended) -> bool:  # noqa: ARG002 - nobody is told
        """Return False."""
        return False
