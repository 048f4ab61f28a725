"""Follow the configuration file: a changed one is put in force as a whole, a bad one changes nothing and is told of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from services.extproc.background import background
from services.extproc.config import ConfigError
from services.extproc.lifecycle import Parts, Source
from services.extproc.prometheus import ReloadMetrics
from services.extproc.readiness import Readiness

INTERVAL = 1.0
"""Seconds between looks at the file, one `stat` each. A mounted ConfigMap takes a minute to change anyway."""

HEALTH = "config"
"""The health name that is NOT_SERVING while the file is refused. No balancer asks for it: requests go on."""

C = TypeVar("C")
Apply = Callable[[C], Awaitable[Sequence[str]]]
"""Puts a configuration in force, or raises `ConfigError` before anything changed. Returns the keys that wait for a
restart."""
Stamp = tuple[int, int, int]


class Follower:
    """Looks at one file, and at those that `others` names. `take` reads them and puts them in force.

    `report` hears whether a change was accepted.
    """

    def __init__(
        self,
        path: Path,
        take: Callable[[], Awaitable[Sequence[str]]],
        report: Callable[[bool], None],
        others: Callable[[], Iterable[Path]] = tuple,
    ) -> None:
        self._path = path
        self._take = take
        self._report = report
        self._others = others
        self._stamp = self._look()
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(file=str(path))

    async def run(self, interval: float) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(interval)
            await self.look()

    async def look(self) -> None:
        """Take the files if one has changed since the last look. One that is gone is being replaced, and waited for."""
        stamp = self._look()
        if None in stamp or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            waiting = await self._take()
        except ConfigError as error:
            self._report(False)
            self._log.error("config_refused", error=str(error), in_force="the one before")
            return
        self._stamp = self._look()  # the new configuration may name other files
        self._report(True)
        self._log.info("config_taken")
        if waiting:
            self._log.warning("config_needs_restart", keys=list(waiting))

    def _look(self) -> tuple[Stamp | None, ...]:
        return tuple(_stamp(path) for path in (self._path, *self._others()))


@contextlib.asynccontextmanager
async def following(
    service: str,
    parts: Parts,
    kind: type[C],
    apply: Apply[C],
    *,
    interval: float = INTERVAL,
    others: Callable[[], Iterable[Path]] = tuple,
) -> AsyncIterator[None]:
    """Follow the file of `parts.source` while the block runs; without a source, or with no interval, do nothing.

    `others` are files that the configuration in force names.

    Metrics `<service>_config_…` and the health name `config` tell how the last change went.
    """
    source = parts.source
    if source is None or not interval:
        yield
        return
    metrics = ReloadMetrics(service, parts.registry)
    current = parts.details.setdefault(HEALTH, Readiness())

    def report(accepted: bool) -> None:
        current.set(accepted)
        metrics.reloaded(accepted)

    def broken(error: BaseException) -> None:
        report(accepted=False)
        for observer in parts.observers:
            observer.failed(error)

    follower = Follower(source.path, lambda: _take(source, kind, apply), report, others)
    async with background(follower.run(interval), on_failure=broken):
        yield


async def _take(source: Source, kind: type[C], apply: Apply[C]) -> Sequence[str]:
    config = await asyncio.to_thread(source.read)  # YAML takes milliseconds, and streams must not wait for it
    if not isinstance(config, kind):
        raise TypeError(f"the source gave {type(config).__name__}, expected {kind.__name__}")
    return await apply(config)


def _stamp(path: Path) -> Stamp | None:
    """Return what changes when the file does, also when a symbolic link turns elsewhere; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
