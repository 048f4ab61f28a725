"""Whether a service can take requests, and what is wrong with one that can, as values that the service sets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping


class Readiness:
    """True from the start; a service that must first learn something sets it to False while it is being built."""

    def __init__(self, *, ready: bool = True) -> None:
        self._ready = ready
        self._details: dict[str, bool] = {}
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

    @property
    def details(self) -> Mapping[str, bool]:
        """What was noted last, by name."""
        return self._details

    def note(self, name: str, ok: bool) -> None:
        """Say whether a part named `name` is well. It has a health name of its own and changes no other."""
        if self._details.get(name) is not ok:
            self._details[name] = ok
            self._changed.set()

    async def change(self) -> None:
        """Wait until a value was set to another one."""
        await self._changed.wait()
        self._changed.clear()
