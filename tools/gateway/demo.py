"""The demo's model servers: the one place that says which pools have them and what they serve."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MockServer:
    """One mock model server."""

    name: str
    pool: str
    model: str
    """The name under which it serves its base model."""
    adapters: tuple[str, ...] = ()


LLAMA = "llama-3.1-8b-instruct"
ADAPTERS = ("food-review", "cad-fabricator")

SERVERS = (
    MockServer("llama-1", "llama", LLAMA, ADAPTERS),
    MockServer("llama-2", "llama", LLAMA, ADAPTERS),
    MockServer("gemma-1", "gemma", "chatbot"),
    MockServer("gemma-new-1", "gemma-new", "chatbot"),
    MockServer("deepseek-1", "deepseek", "recommender"),
)
"""Their order is the order of their ports."""
