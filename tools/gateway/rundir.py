"""The run directory of one stack: its logs, Envoy's configuration, and the mark that it is running.

The mark is a file lock, not a process number alone: the kernel takes it back however the process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

TAIL_BYTES = 8192


class AlreadyRunning(RuntimeError):
    """Another `up` holds this directory. The message is a sentence for the user."""


def locate(port: int) -> Path:
    """Return `.run/PORT` here, or in the XDG state directory where this one cannot be written."""
    here = Path.cwd()
    if os.access(here, os.W_OK):
        return here / ".run" / str(port)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(state) / "inference-gateway" / str(port)


@contextlib.contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Hold the directory for this process. Raises `AlreadyRunning`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "pid").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = holder(run_dir)
            raise AlreadyRunning(
                f"a gateway runs here already, as process {owner}; stop it with --stop"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        ready_file(run_dir).unlink(missing_ok=True)
        try:
            yield
        finally:
            ready_file(run_dir).unlink(missing_ok=True)
            file.truncate(0)


def holder(run_dir: Path) -> int | None:
    """Return the number of the process that runs from here, None when there is none."""
    try:
        with (run_dir / "pid").open() as file:
            if _is_free(file.fileno()):
                return None
            return int(file.read() or 0) or None
    except FileNotFoundError:
        return None


def ready_file(run_dir: Path) -> Path:
    """Return the file that holds the ready JSON while the stack is ready."""
    return run_dir / "ready.json"


def log_file(run_dir: Path, name: str) -> Path:
    """Return the log of the process `name`."""
    return run_dir / f"{name}.log"


def last_lines(path: Path, count: int) -> list[str]:
    """Return the end of a log, at most `count` lines of it."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if line.strip()][-count:]


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
