"""Follow the configuration file: a changed one replaces what decides as a whole, a bad one changes nothing.

In-flight load, prefixes and metrics of a pool that stays are kept, and so is what a plugin remembers whose declaration
stays. What was read once at the start, such as ports, is told of and not changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from services.epp.assemble import Assembly, assemble, make_pool, pool_limits
from services.epp.config import EndpointPickerConfig
from services.epp.director import Director
from services.epp.pool import Pool
from services.epp.upkeep import Upkeep
from services.extproc.config import ConfigError

INTERVAL = 1.0
"""Seconds between looks at the file: one `stat` each. A mounted ConfigMap takes a minute to change anyway."""

AT_START = frozenset(
    {"explain", "featureGates", "flowControl", "in_flight", "redis", "listen", "log", "limits"}
)
"""Keys that count only at the start."""

Stamp = tuple[int, int, int]


class Live:
    """The configuration in force, and the objects that it governs."""

    def __init__(
        self, assembly: Assembly, pools: dict[str, Pool], director: Director, upkeep: Upkeep
    ) -> None:
        self.assembly = assembly
        self._pools = pools
        self._director = director
        self._upkeep = upkeep

    async def apply(self, config: EndpointPickerConfig) -> list[str]:
        """Put `config` in force; return the keys that wait for a restart.

        Raises `ConfigError` before anything has changed. Decisions see the old state or the new one, never a mixture:
        nothing waits between the first change and the last that they look at.
        """
        assembly = assemble(config, self.assembly)
        self._change_pools(config)
        self._director.reconfigure(
            assembly.scheduler,
            detector=assembly.detector,
            objectives=assembly.objectives,
            default_pool=config.default_pool,
            zone=config.zone,
        )
        before, self.assembly = self.assembly.config, assembly
        await self._upkeep.follow(config)
        return [
            field.encode_name
            for field in msgspec.structs.fields(EndpointPickerConfig)
            if field.encode_name in AT_START and getattr(before, field.name) != getattr(config, field.name)
        ]

    def _change_pools(self, config: EndpointPickerConfig) -> None:
        for name in self._pools.keys() - {spec.name for spec in config.pools}:
            del self._pools[name]
        for spec in config.pools:
            if spec.name in self._pools:
                self._pools[spec.name].reconfigure(pool_limits(spec, config), scraped=spec.metrics.enabled)
            else:
                self._pools[spec.name] = make_pool(spec, config, time.monotonic)


class Watch:
    """Looks at the file again and again."""

    def __init__(
        self,
        path: Path,
        read: Callable[[], EndpointPickerConfig],
        live: Live,
        *,
        report: Callable[[bool], None],
    ) -> None:
        """`read` raises `ConfigError`; `report` hears whether a changed file was put in force."""
        self._path = path
        self._read = read
        self._live = live
        self._report = report
        self._stamp = _stamp(path)
        self._log = structlog.get_logger().bind(file=str(path))

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """Read the file if it has changed since the last look. One that is gone is being replaced, and waited for."""
        stamp = _stamp(self._path)
        if stamp is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            waiting = await self._live.apply(self._read())
        except ConfigError as error:
            self._report(False)
            self._log.error("changed configuration refused, the old one stays", error=str(error))
            return
        self._report(True)
        self._log.info("changed configuration in force")
        if waiting:
            self._log.warning("changed keys wait for a restart", keys=waiting)


def _stamp(path: Path) -> Stamp | None:
    """Return what changes when the file does, also when a symbolic link turns elsewhere; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
