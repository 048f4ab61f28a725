"""Ask in the background whether Redis answers. Requests never wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

INTERVAL = 5.0
"""Seconds between two questions."""
TIMEOUT = 2.0
"""Seconds for an answer."""


class Pings(Protocol):
    """What is asked of a client."""

    def ping(self) -> Awaitable[object]:
        """Return when the server has answered; raise when it has not."""


class RedisProbe:
    """Pings the server at `url`. `report` hears every result."""

    def __init__(self, url: str, report: Callable[[bool], None]) -> None:
        self._url = url
        self._report = report
        self._up: bool | None = None
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Ask at once and at every interval, for ever."""
        async with Redis.from_url(
            self._url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        ) as client:
            while True:
                await self.once(client)
                await asyncio.sleep(INTERVAL)

    async def once(self, client: Pings) -> None:
        """Ask once."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await client.ping()
        except (RedisError, OSError, TimeoutError) as error:
            self._note(up=False, error=str(error))
        else:
            self._note(up=True)

    def _note(self, *, up: bool, error: str = "") -> None:
        self._report(up)
        if up is not self._up:
            self._up = up
            if up:
                self._log.info("redis answers")
            else:
                self._log.warning("redis does not answer; decisions go on without it", error=error)
