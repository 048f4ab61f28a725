"""How many bytes all streams of a process may hold together."""

from __future__ import annotations

from services.extproc.errors import Unavailable

RETRY_AFTER = (("retry-after", "1"),)
"""Seconds: bodies are held for the time of a decision, so room is soon there again."""


class Budget:
    """A shared account of `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def change(self, by: int) -> None:
        """Add `by` bytes, which may be negative; raise `Unavailable` when more are held now than allowed."""
        self.used += by
        if by > 0 and self.used > self._limit:
            raise Unavailable("too much is being processed now, try again", headers=RETRY_AFTER)
