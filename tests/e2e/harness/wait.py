"""Waiting for a condition with a deadline, so that no test guesses how long something takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

INTERVAL = 0.02  # seconds between two looks: short against any start-up, long against the look itself


def wait_until(holds: Callable[[], object], what: str | Callable[[], str], *, deadline: float = 30.0) -> None:
    """Return once `holds()` is true; raise `TimeoutError` that says `what` after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline} s: {what() if callable(what) else what}")
        time.sleep(INTERVAL)


async def until(holds: Callable[[], Awaitable[object]], what: str, *, deadline: float = 30.0) -> None:
    """Return once `await holds()` is true; raise `TimeoutError` that names `what` after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not await holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline} s: {what}")
        await asyncio.sleep(INTERVAL)
