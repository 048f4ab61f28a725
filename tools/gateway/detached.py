"""A stack in the background: started until it is ready, and stopped by whoever knows its port."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import msgspec

from tools.gateway import rundir
from tools.gateway.runner import announcement
from tools.gateway.stack import Ready

POLL_SECONDS = 0.05
STOP_SECONDS = 10.0


def detach(arguments: list[str], run_dir: Path) -> int:
    """Run `inference-gateway` with `arguments` in a session of its own; return when it is ready or has failed."""
    if (owner := rundir.holder(run_dir)) is not None:
        click.echo(f"inference-gateway: process {owner} runs here already; stop it with --stop", err=True)
        return 1
    run_dir.mkdir(parents=True, exist_ok=True)
    log = rundir.log_file(run_dir, "gateway")
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-P", "-m", "tools.gateway.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    ready = rundir.ready_file(run_dir)
    while process.poll() is None:
        if rundir.holder(run_dir) == process.pid and ready.exists():
            found = msgspec.json.decode(ready.read_bytes(), type=Ready)
            click.echo(announcement(found), nl=False)
            click.echo(f"runs as process {process.pid}; logs in {run_dir}", err=True)
            return 0
        time.sleep(POLL_SECONDS)
    click.echo("\n".join(rundir.last_lines(log, 12)), err=True)
    return 1


def stop(run_dir: Path) -> int:
    """Stop the stack that runs from `run_dir` and wait for its end."""
    owner = rundir.holder(run_dir)
    if owner is None:
        click.echo(f"inference-gateway: nothing runs from {run_dir}", err=True)
        return 1
    process = os.pidfd_open(owner)
    signal.pidfd_send_signal(process, signal.SIGTERM)
    ended, _, _ = select.select([process], [], [], STOP_SECONDS)
    os.close(process)
    if not ended:
        click.echo(f"inference-gateway: process {owner} does not stop", err=True)
        return 1
    click.echo(f"stopped process {owner}", err=True)
    return 0
