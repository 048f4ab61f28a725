"""Shorthand for scheduling tests: a server in one line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.epp.endpoints import Endpoint, Metrics, Server
from services.epp.inflight import Load
from services.epp.scheduling.interfaces import Situation
from services.openai.digest import Digest

NOW = 100.0


def server(
    slot: int, *, ready: bool = True, address: str = "", labels: dict[str, str] | None = None, **metrics: Any
) -> Server:
    endpoint = Endpoint(address or f"10.0.0.{slot + 1}:8000", labels or {})
    return Server(endpoint, slot, Metrics(**({"scraped_at": NOW} | metrics)), ready)


def situation(*loads: Load, blocks: int = 0, model: str = "base", **more: Any) -> Situation:
    """Make a request of `blocks` blocks; servers without a load are idle."""
    padded = [*loads, *(Load() for _ in range(10 - len(loads)))]
    return Situation(Digest(model, blocks=tuple(range(blocks))), NOW, padded, **more)


def slots(servers: Iterable[Server]) -> list[int]:
    """Say which servers these are."""
    return [server.slot for server in servers]


def prompt(tokens: int, **more: Any) -> Situation:
    """Make a request with a prompt of so many tokens."""
    loads = [Load() for _ in range(10)]
    return Situation(Digest("base", prompt_bytes=4 * tokens), NOW, loads, **more)
