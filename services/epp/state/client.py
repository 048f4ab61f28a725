"""A Redis client from the configuration."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.epp.config import Redis as Settings


def connect(settings: Settings) -> Redis:
    """Return a client that has not connected yet. It never tries twice: whoever asks knows better when."""
    return Redis.from_url(
        settings.url,
        protocol=2,  # both sides of every Redis since 2.6 speak it alike
        retry=Retry(NoBackoff(), 0),
        socket_timeout=None,  # the caller's timeouts end an operation as a whole
        socket_connect_timeout=settings.timeout_seconds,
    )
