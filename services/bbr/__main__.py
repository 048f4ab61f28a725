"""`python -m services.bbr --config config/bbr.yaml`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import random
import time
from collections.abc import AsyncIterator

import structlog

from services.bbr.chain import Chain
from services.bbr.config import Config
from services.bbr.metrics import PrometheusObserver
from services.bbr.reload import LiveRules
from services.bbr.service import Bbr
from services.extproc.lifecycle import App, Parts
from services.extproc.main import command
from services.extproc.reload import following
from services.tokens.metrics import PrometheusObserver as TokenMetrics
from services.tokens.source import tokenizing


@contextlib.asynccontextmanager
async def build(config: Config, parts: Parts) -> AsyncIterator[App]:
    """Give the service; its file is followed while the block runs."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(service="bbr")
    observer = PrometheusObserver(parts.registry, version=_version(), log=logger.error)
    links = tuple(config.chain())
    chain = Chain(links, observer, time.perf_counter) if links else None
    rules = LiveRules(config)
    async with (
        following("bbr", parts, Config, rules.apply, interval=config.reload_seconds),
        tokenizing(config.tokens, TokenMetrics(parts.registry, "bbr")) as tokens,
    ):
        limit = config.limits.body_bytes
        bbr = Bbr(rules, observer, chance=random.Random(), chain=chain, answer_limit=limit, tokens=tokens)
        yield App(bbr)


def _version() -> str:
    """Images hold the sources alone, without the package's metadata."""
    try:
        return importlib.metadata.version("inference-gateway")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


main = command("bbr", Config, build)

if __name__ == "__main__":
    main()
