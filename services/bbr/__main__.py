"""`python -m services.bbr --config config/bbr.yaml`."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import AsyncIterator

from services.bbr.config import Config
from services.bbr.metrics import PrometheusObserver
from services.bbr.rules import FixedRules
from services.bbr.service import Bbr
from services.extproc.lifecycle import App, Parts
from services.extproc.main import command


@contextlib.asynccontextmanager
async def build(config: Config, parts: Parts) -> AsyncIterator[App]:
    """Give the service; nothing runs beside its streams."""
    observer = PrometheusObserver(parts.registry, version=_version())
    yield App(Bbr(FixedRules(config.rules()), observer))


def _version() -> str:
    """Images hold the sources alone, without the package's metadata."""
    try:
        return importlib.metadata.version("inference-gateway")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


main = command("bbr", Config, build)

if __name__ == "__main__":
    main()
