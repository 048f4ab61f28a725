"""What replicas of the picker tell each other. The request path reports and never waits.

The interface is the seam; its only implementation so far keeps everything to itself. What goes through it is what a
second replica needs to decide alike: assignments (load and prefix), ends, and scraped metrics.
"""

from __future__ import annotations

from typing import Protocol

from services.epp.endpoints import Metrics
from services.epp.inflight import Entry


class SharedState(Protocol):
    """A place to publish to. Every method returns at once; losing what it was told must do no harm."""

    def picked(self, pool: str, address: str, entry: Entry) -> None:
        """Publish that `entry` was sent to `address`."""

    def released(self, pool: str, decision: str, served: str | None) -> None:
        """Publish the end of a request, which may be another replica's."""

    def scraped(self, pool: str, address: str, metrics: Metrics) -> None:
        """Publish what a server reported."""

    async def run(self) -> None:
        """Exchange with the others until cancelled."""


class Alone:
    """One replica without others."""

    def picked(self, pool: str, address: str, entry: Entry) -> None:
        """Tell nobody."""

    def released(self, pool: str, decision: str, served: str | None) -> None:
        """Tell nobody."""

    def scraped(self, pool: str, address: str, metrics: Metrics) -> None:
        """Tell nobody."""

    async def run(self) -> None:
        """Return at once: there is nobody to talk to."""
