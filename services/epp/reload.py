"""Put a changed configuration in force: it replaces what decides as a whole, or nothing where it is wrong.

In-flight load, prefixes and metrics of a pool that stays are kept, and so is what a plugin remembers whose declaration
stays. What was read once at the start, such as ports, is told of and not changed.
"""

from __future__ import annotations

import time

import msgspec

from services.epp.assemble import Assembly, assemble, make_pool, pool_limits
from services.epp.config import EndpointPickerConfig
from services.epp.director import Director
from services.epp.pool import Pool
from services.epp.rewrites import Rewriter
from services.epp.state.shared import Shared
from services.epp.upkeep import Upkeep

AT_START = frozenset(
    {"explain", "featureGates", "flowControl", "in_flight", "redis", "listen", "log", "limits"}
)
"""Keys that count only at the start."""


class Live:
    """The configuration in force, and the objects that it governs."""

    def __init__(
        self,
        assembly: Assembly,
        pools: dict[str, Pool],
        director: Director,
        upkeep: Upkeep,
        rewriter: Rewriter,
        shared: Shared | None = None,
    ) -> None:
        self.assembly = assembly
        self._pools = pools
        self._director = director
        self._upkeep = upkeep
        self._rewriter = rewriter
        self._shared = shared

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
        self._rewriter.tables = assembly.rewrites
        if self._shared is not None:
            self._shared.attend({name: plugin for name, (_, plugin) in assembly.plugins.items()})
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
