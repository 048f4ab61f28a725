"""Policies that follow their file and the rule files it names, for exchanges that begin after the change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from services.extproc.config import ConfigError
from services.safety.assemble import Assembled
from services.safety.config import SafetyConfig

_FIXED = ("limits", "providers", "audit", "audit_key", "facades")
"""Sections that only a restart changes: connections and keys are not swapped under running exchanges.

`listen` and `log` are not compared; what the file says of them waits for a restart, too.
"""


class LivePolicies:
    """The configuration in force. `compile_` may take seconds, and `use` swaps in what it made."""

    def __init__(
        self,
        config: SafetyConfig,
        *,
        compile_: Callable[[SafetyConfig], Assembled],
        use: Callable[[Assembled], None],
    ) -> None:
        self._config = config
        self._compile = compile_
        self._use = use

    def files(self) -> Iterable[Path]:
        """Return the rule files of the configuration in force."""
        return map(Path, self._config.rules)

    async def apply(self, config: SafetyConfig) -> Sequence[str]:
        """Put the policies of `config` in force; raise `ConfigError` where it needs a restart or cannot be used."""
        for name in _FIXED:
            if getattr(config, name) != getattr(self._config, name):
                raise ConfigError(f"{name}: changes only with a restart")
        assembled = await asyncio.to_thread(self._compile, config)
        self._config = config
        self._use(assembled)
        return ()
