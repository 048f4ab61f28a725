"""Whether a service can take requests, as a value that the service sets."""

from __future__ import annotations

import asyncio


class Readiness:
    """True from the start; a service that must first learn something sets it to False while it is being built."""

    def __init__(self, *, ready: bool = True) -> None:
        self._ready = ready
        self._changed = asyncio.Event()

    @property
    def ready(self) -> bool:
        """What was set last."""
        return self._ready

    def set(self, ready: bool) -> None:
        """Say whether requests can be taken now."""
        if ready is not self._ready:
            self._ready = ready
            self._changed.set()

    async def change(self) -> None:
        """Wait until the value was set to another one."""
        await self._changed.wait()
        self._changed.clear()
