"""The running totals of what is in flight at one server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Load:
    """The running totals of one server. Readers treat it as read-only; it changes between decisions, never within."""

    requests: int = 0
    prompt_tokens: int = 0
    """Estimated prompt tokens in flight that the server has not cached."""
    output_tokens: int = 0
    """Estimated tokens to be generated for the requests in flight."""
    context_tokens: int = 0
    """Prompt tokens, cached or not, of the requests in flight."""
    unseen: int = 0
    """Requests in flight that were picked after the server's last scrape began: its metrics cannot know them."""
    finished: int = 0
    """Requests that its last metrics still count, but that have ended since."""

    def put(self, other: Load) -> None:
        """Add `other` to this."""
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.output_tokens += other.output_tokens
        self.context_tokens += other.context_tokens
        self.unseen += other.unseen
        self.finished += other.finished

    def take(self, other: Load) -> None:
        """Take `other`, which was put before, off this."""
        self.requests -= other.requests
        self.prompt_tokens -= other.prompt_tokens
        self.output_tokens -= other.output_tokens
        self.context_tokens -= other.context_tokens
        self.unseen -= other.unseen
        self.finished -= other.finished
