"""One run of the stack in this process: from the checks before anything starts to the exit status."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click
import msgspec

from services.extproc.config import ConfigError
from tools.gateway import binaries, rundir
from tools.gateway.checks import check_directory
from tools.gateway.children import ChildDied
from tools.gateway.console import Console
from tools.gateway.examples import examples
from tools.gateway.plan import Options, Plan, PlanError, make_plan
from tools.gateway.ports import PortError, require_free
from tools.gateway.routes import Routes
from tools.gateway.stack import NotReady, Ready, running

REFUSALS = (ConfigError, PlanError, PortError, binaries.MissingBinary, rundir.AlreadyRunning)
"""What is found before anything starts."""


class Stopped(Exception):
    """A signal asked for the end."""


def run(options: Options) -> int:
    """Run until a signal, and return the exit status. Whatever goes wrong is one sentence on stderr."""
    run_dir = rundir.locate(options.ports.gateway)
    try:
        routes = check_directory(options.config_dir)
        plan = make_plan(options, routes.pools, binaries.find(), run_dir)
        with rundir.claimed(run_dir):
            require_free(plan.run_ports)
            return asyncio.run(_supervise(plan, routes, run_dir))
    except KeyboardInterrupt:  # before there was anything to stop
        return 0
    except REFUSALS as error:
        click.echo(f"inference-gateway: {error}", err=True)
        return 1


def announcement(ready: Ready) -> str:
    """Return the ready line and the examples."""
    return f"ready {msgspec.json.encode(ready).decode()}\n{examples(ready)}"


async def _supervise(plan: Plan, routes: Routes, run_dir: Path) -> int:
    asked = _stop_signals()
    console = Console()
    console.say(f"logs and Envoy's configuration: {run_dir}")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_until(asked))
            async with running(plan, routes, run_dir, console) as ready:
                _announce(ready, run_dir)
                await asyncio.get_running_loop().create_future()
    except* Stopped:
        status = 0
    except* (ChildDied, NotReady) as failures:
        for failure in _leaves(failures):
            click.echo(f"inference-gateway: {failure}", err=True)
        status = 1
    return status


def _stop_signals() -> asyncio.Event:
    """Return what the first SIGINT or SIGTERM sets; more of them change nothing."""
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    return asked


async def _until(asked: asyncio.Event) -> None:
    await asked.wait()
    raise Stopped


def _announce(ready: Ready, run_dir: Path) -> None:
    # First the file, which a detached run's parent waits for; renamed so that nobody reads half of it.
    path = rundir.ready_file(run_dir)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(ready))
    part.rename(path)
    sys.stdout.write(announcement(ready))
    sys.stdout.flush()


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
