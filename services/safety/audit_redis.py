"""Audit records into a Redis Stream: a pipeline per batch."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio
from redis.exceptions import RedisError

from services.safety.audit_config import RedisSink

_TIMEOUT = 5.0  # seconds for a connection and for a batch


class RedisWriter:
    """Adds entries; the stream is trimmed to about its length as it grows."""

    def __init__(self, settings: RedisSink) -> None:
        self._settings = settings
        self._redis = redis.asyncio.from_url(
            settings.url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT
        )

    async def write(self, lines: Sequence[bytes]) -> None:
        """Add one entry per line; after an error some may have been added, and are added again."""
        pipeline = self._redis.pipeline(transaction=False)
        for line in lines:
            pipeline.xadd(
                self._settings.stream, {"record": line}, maxlen=self._settings.max_length, approximate=True
            )
        try:
            await pipeline.execute()
        except RedisError as error:
            raise OSError(str(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
