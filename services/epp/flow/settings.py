"""What flow control goes by, ready for use."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.epp.flow.queues import Limits


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are in seconds."""

    limits: Limits = field(default_factory=Limits)
    ttl: float = 60.0
    no_endpoint_ttl: float = 60.0
    """While no server is ready."""
    max_wait: float = 60.0
    """What the proxy grants at most."""
    evicts: bool = False
    """Take sheddable requests back from their servers, where their answer has not begun, for others that would wait."""

    def patience(self, priority: int, *, ready: bool, asked: float | None) -> float:
        """Return how long a request waits. A client's own time (`asked`) can only be shorter than the operator's."""
        band = self.limits.band(priority).ttl
        ttl = self.no_endpoint_ttl if not ready else self.ttl if band is None else band
        return ttl if asked is None else min(asked, ttl)
