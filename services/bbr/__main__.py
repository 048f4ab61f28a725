"""`python -m services.bbr --config config/bbr.yaml`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog

from services.bbr.chain import Chain
from services.bbr.config import Config
from services.bbr.metrics import PrometheusObserver
from services.bbr.reload import FollowedRules
from services.bbr.rules import FixedRules, Rules
from services.bbr.service import Bbr
from services.extproc.background import background
from services.extproc.config import parse, read
from services.extproc.lifecycle import App, Parts
from services.extproc.main import command

HEALTH = "config"
"""The health name that is NOT_SERVING while the file is wrong. No balancer asks for it: requests go on."""


@contextlib.asynccontextmanager
async def build(config: Config, parts: Parts) -> AsyncIterator[App]:
    """Give the service; its file is followed while the block runs."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(service="bbr")
    observer = PrometheusObserver(parts.registry, version=_version(), now=time.time, log=logger.error)
    links = tuple(config.chain())
    chain = Chain(links, observer, time.perf_counter) if links else None
    limit = config.limits.body_bytes
    if parts.config_file is None or not config.reload_seconds:
        source = FixedRules(config.rules())
        yield App(Bbr(source, observer, chance=random.Random(), chain=chain, answer_limit=limit))
        return

    def report(error: str | None) -> None:
        observer.reloaded(error)
        parts.readiness.note(HEALTH, error is None)
        if error:
            logger.error("config_refused", error=error, rules="as before")
        else:
            logger.info("config_taken")

    file = parts.config_file
    followed = FollowedRules(lambda: read(file), _parser(file, logger.warning), report)
    parts.readiness.note(HEALTH, ok=True)

    def broken(error: BaseException) -> None:
        report(f"the file is no longer followed: {error!r}")

    async with background(followed.follow(config.reload_seconds), on_failure=broken):
        yield App(Bbr(followed, observer, chance=random.Random(), chain=chain, answer_limit=limit))


def _parser(file: Path, warn: Callable[..., None]) -> Callable[[str], Rules]:
    """Return what reads the rules out of a text, and says which of its other settings wait for a restart."""
    started = parse(read(file), Config, name=str(file)).fixed()

    def rules(text: str) -> Rules:
        config = parse(text, Config, name=str(file))
        if changed := [name for name, value in config.fixed().items() if value != started[name]]:
            warn("config_needs_restart", settings=changed)
        return config.rules()

    return rules


def _version() -> str:
    """Images hold the sources alone, without the package's metadata."""
    try:
        return importlib.metadata.version("inference-gateway")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


main = command("bbr", Config, build)

if __name__ == "__main__":
    main()
