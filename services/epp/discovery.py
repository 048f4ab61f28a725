"""Who is in a pool: names become addresses, again and again."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

import structlog

from services.epp.config import PoolSpec
from services.epp.endpoints import Endpoint, join
from services.epp.pool import Pool
from services.epp.records import Observer

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Name → every A and AAAA address. Raises OSError when there is no answer."""


async def resolve(host: str) -> Sequence[str]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


class Discovery:
    """Keeps one pool's membership current. `changed` is called after every change."""

    def __init__(
        self,
        spec: PoolSpec,
        pool: Pool,
        *,
        observer: Observer,
        changed: Callable[[], None],
        resolver: Resolve = resolve,
    ) -> None:
        self._spec = spec
        self._pool = pool
        self._observer = observer
        self._changed = changed
        self._resolve = resolver
        self._known: dict[str, Sequence[str]] = {}
        self._log = structlog.get_logger().bind(pool=pool.name)

    async def run(self) -> None:
        """Look up every name at once, then at every interval; for ever."""
        while True:
            await self.round()
            if not any(_is_name(target.host) for target in self._spec.targets()):
                return
            await asyncio.sleep(self._spec.resolve_interval_seconds)

    async def round(self) -> None:
        """Look up every name once and set the membership."""
        targets = self._spec.targets()
        addresses = await asyncio.gather(*(self._addresses(target.host) for target in targets))
        members = [
            Endpoint(join(address, target.port), target.labels)
            for target, found in zip(targets, addresses, strict=True)
            for address in found
        ]
        if self._pool.set_members(members):
            self._log.info("pool membership changed", members=sorted(member.address for member in members))
            self._changed()

    async def _addresses(self, host: str) -> Sequence[str]:
        """Return the addresses of `host`; those known before when there is no answer, since silence is no news."""
        if not _is_name(host):
            return [host]
        try:
            self._known[host] = await self._resolve(host)
        except OSError as error:
            self._observer.resolve_failed(self._pool.name)
            self._log.warning("name does not resolve", host=host, error=str(error))
        return self._known.get(host, ())


def _is_name(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
