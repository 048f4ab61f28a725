"""How many a picker names."""

from __future__ import annotations

FALLBACKS = 3
"""The first choice and its fallbacks. The reference names one; a list lets the proxy go on when a server is gone."""


def check(endpoints: int) -> None:
    """Raise ValueError unless a picker may name that many."""
    if endpoints < 1:
        raise ValueError(f"maxNumOfEndpoints must be at least 1, got {endpoints}")
