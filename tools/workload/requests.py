"""One request of a workload: when it comes, whose it is, and what it asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class TimedRequest:
    """A chat completion that somebody asks for at a time."""

    at: float
    """Seconds from the start of the workload."""
    tenant: str
    session: str
    turn: int
    """Counts from 0 within the session; turn k is asked after turn k-1 was answered."""
    messages: tuple[Message, ...]
    max_tokens: int

    @property
    def prompt(self) -> str:
        """The messages as one text, in which equal beginnings mean equal beginnings of the conversations."""
        return "".join(f"<{message.role}>{message.content}" for message in self.messages)

    def chat(self, model: str) -> dict[str, object]:
        """Return the body of a chat completions request to `model`."""
        messages = [{"role": message.role, "content": message.content} for message in self.messages]
        return {"model": model, "messages": messages, "max_tokens": self.max_tokens}
