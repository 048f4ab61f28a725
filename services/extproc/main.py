"""The command line that the services share. A service's `__main__.py` is this.

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        listen: Listen = msgspec.field(default_factory=lambda: Listen(port=9004, health_port=9005, metrics_port=9094))
        log: Log = msgspec.field(default_factory=Log)
        limits: Limits = msgspec.field(default_factory=Limits)
        ...                                               # the service's own

    @contextlib.asynccontextmanager
    async def build(config: Config, parts: Parts) -> AsyncIterator[App]:
        async with background(poll(...)):                 # what must run beside the streams
            yield App(BbrService(config), handlers=[...])

    main = command("bbr", Config, build)

    if __name__ == "__main__":
        main()

Flags override the file. Further ones are passed as `options`, and `override` puts their values into the config.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import click
import msgspec
import structlog
import uvloop

from services.extproc.config import ConfigError, Limits, Listen, Log, load
from services.extproc.errors import BindError
from services.extproc.lifecycle import App, Parts, running
from services.extproc.log import StreamLog, configure

LEVELS = ("debug", "info", "warning", "error")


class ServiceConfig(Protocol):
    """What every service's configuration has."""

    @property
    def listen(self) -> Listen:
        """The ports."""

    @property
    def log(self) -> Log:
        """The log."""

    @property
    def limits(self) -> Limits:
        """The bounds."""


C = TypeVar("C", bound=ServiceConfig)
Build = Callable[[C, Parts], contextlib.AbstractAsyncContextManager[App]]
Override = Callable[[C, Mapping[str, object]], C]


def command(
    name: str,
    kind: type[C],
    build: Build[C],
    *,
    options: Sequence[click.Option] = (),
    override: Override[C] = lambda config, _: config,
) -> click.Command:
    """Return the command `python -m services.NAME`.

    `override` gets the values of `options` by name and may raise `ConfigError`.
    """

    def start(config: Path, **flags: object) -> None:
        try:
            settings = with_flags(load(config, kind), flags)
            settings = override(settings, flags)
            uvloop.run(serve(name, settings, build, source=config))
        except (ConfigError, BindError) as error:
            raise click.ClickException(str(error)) from error

    return click.Command(
        name, callback=start, params=[*_flags(name), *options], help=f"Run the ext_proc service {name}."
    )


def with_flags(config: C, flags: Mapping[str, object]) -> C:
    """Return `config` with the shared flags put in; a flag that is None changes nothing."""
    names = ("host", "port", "health_port", "metrics_port")
    listen = {key: flags[key] for key in names if flags.get(key) is not None}
    log = {"level": flags["log_level"]} if flags.get("log_level") else {}
    return msgspec.structs.replace(  # type: ignore[type-var]  # a Protocol cannot ask for a msgspec Struct
        config,
        listen=msgspec.structs.replace(config.listen, **listen),
        log=msgspec.structs.replace(config.log, **log),
    )


async def serve(name: str, config: C, build: Build[C], *, source: Path | None = None) -> None:
    """Run the service until SIGTERM or SIGINT, then drain and return."""
    configure(config.log.level)
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    observer = StreamLog(name, config.log, chance=random.Random(), logger=logger)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    parts = Parts(observers=(observer,), source=source)
    async with running(lambda parts: build(config, parts), config.listen, config.limits, parts) as ports:
        logger.info("serving", service=name, port=ports.grpc, health=ports.health, metrics=ports.metrics)
        await stop.wait()
        logger.info("draining", service=name)
    logger.info("stopped", service=name)


def _flags(name: str) -> list[click.Parameter]:
    port = click.IntRange(0, 65535)
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            default=Path(f"config/{name}.yaml"),
            show_default=True,
        ),
        click.Option(["--host"], help="Address to listen on."),
        click.Option(["--port"], type=port, help="ext_proc port; 0 lets the system choose."),
        click.Option(["--health-port"], type=port, help="gRPC health port."),
        click.Option(["--metrics-port"], type=port, help="HTTP port of /metrics."),
        click.Option(["--log-level"], type=click.Choice(LEVELS)),
    ]
