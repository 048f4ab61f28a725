"""LoRA slots: how many adapters can be in one batch, and what it costs to bring in another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection


class AdapterSlots:
    """Adapters in GPU memory, least recently used first. The base model, named "", needs no slot."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._loaded: OrderedDict[str, None] = OrderedDict()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The adapters in memory."""
        return tuple(self._loaded)

    def admits(self, adapter: str, in_use: Collection[str]) -> bool:
        """Whether `adapter` can join a batch that uses `in_use`."""
        if not adapter or adapter in self._loaded or len(self._loaded) < self.slots:
            return True
        return any(name not in in_use for name in self._loaded)

    def use(self, adapter: str, in_use: Collection[str]) -> bool:
        """Take a slot for an admitted `adapter`; True when it had to be loaded."""
        if not adapter:
            return False
        loading = adapter not in self._loaded
        if loading and len(self._loaded) >= self.slots:
            del self._loaded[next(name for name in self._loaded if name not in in_use)]
        self._loaded[adapter] = None
        self._loaded.move_to_end(adapter)
        return loading

    def forget(self, adapter: str) -> None:
        """Free the slot of an adapter that is unloaded."""
        self._loaded.pop(adapter, None)
