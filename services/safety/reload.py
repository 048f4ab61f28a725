"""Policies that follow their file: a good one takes the place of the old, a bad one changes nothing and is reported."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.extproc.config import ConfigError, load
from services.safety.assemble import Assembled
from services.safety.config import SafetyConfig

INTERVAL = (
    1.0  # seconds between looks at the files: a stat costs microseconds, an operator waits for the effect
)
_FIXED = ("limits", "providers", "audit", "audit_key", "facades")
"""Sections that only a restart changes: connections and keys are not swapped under running exchanges.

`listen` and `log` are not compared, because flags may have changed them; what the file says of them waits for a restart too.
"""

Stamp = tuple[tuple[str, int, int], ...]


class Outcome(enum.StrEnum):
    """What became of a changed file."""

    APPLIED = "applied"
    REFUSED = "refused"
    """It cannot be used; the old policies stay."""


class Reloader:
    """Watches one configuration file and the rule files it names.

    `compile_` may take seconds and runs beside the event loop; `use` swaps in what it made, for exchanges that begin then.
    """

    def __init__(
        self,
        path: Path,
        config: SafetyConfig,
        *,
        compile_: Callable[[SafetyConfig], Assembled],
        use: Callable[[Assembled], None],
        report: Callable[[Outcome, str], None],
    ) -> None:
        self._path = path
        self._config = config
        self._compile = compile_
        self._use = use
        self._report = report
        self._stamp = self._look()

    async def run(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Follow the files until cancelled."""
        while True:
            await sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """Take the files as they are now, if one has changed."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            config = load(self._path, SafetyConfig)
            self._refuse_fixed(config)
            assembled = await asyncio.to_thread(self._compile, config)
        except ConfigError as error:
            self._report(Outcome.REFUSED, str(error))
            return
        self._config, self._stamp = config, self._look(config)
        self._use(assembled)
        self._report(Outcome.APPLIED, "")

    def _refuse_fixed(self, config: SafetyConfig) -> None:
        for name in _FIXED:
            if getattr(config, name) != getattr(self._config, name):
                raise ConfigError(f"{self._path}: {name}: changes only with a restart")

    def _look(self, config: SafetyConfig | None = None) -> Stamp:
        files = [self._path, *map(Path, (config or self._config).rules)]
        return tuple(_stamp(path) for path in files)


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError:  # a file that is being replaced; the next look finds it, or the load says what is wrong
        return str(path), 0, 0
    return str(path), stat.st_mtime_ns, stat.st_ino
