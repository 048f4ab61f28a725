"""The smallest service, to be run as a process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec

from services.extproc.config import Limits, Listen, Log
from services.extproc.lifecycle import App, Parts
from services.extproc.main import command
from tests.extproc.kit import Fake


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    listen: Listen = msgspec.field(default_factory=lambda: Listen(port=0))
    log: Log = msgspec.field(default_factory=Log)
    limits: Limits = msgspec.field(default_factory=Limits)


@contextlib.asynccontextmanager
async def build(_: Config, __: Parts) -> AsyncIterator[App]:
    yield App(Fake())


main = command("a", Config, build)

if __name__ == "__main__":
    main()
