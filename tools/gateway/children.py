"""The processes of a stack: started in their own process groups, watched, and gone when their owner is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.gateway import leash
from tools.gateway.plan import Command
from tools.gateway.rundir import last_lines, log_file

TERMINATE_SECONDS = 2.5  # all must be over in five
SHOWN_LINES = 8
RESTART_SECONDS = 1.0  # long enough to see what is missing, short enough to wait for
SHORTEST_LIFE = 3.0
"""Seconds; what ends sooner after its start would do so again."""


class ChildDied(RuntimeError):
    """A process ended that should not have. The message says which, how, and its last words."""


class Children:
    """Starts processes and stops them all, Envoy first.

    `group` watches them: one that dies fails the group, except a spare one, which is started again; `say` tells.
    """

    def __init__(
        self, run_dir: Path, group: asyncio.TaskGroup, *, echo: bool, say: Callable[[str], None]
    ) -> None:
        self._run_dir = run_dir
        self._group = group
        self._echo = echo
        self._say = say
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def start(self, command: Command) -> None:
        """Start `command`, its output going to its log, and to stderr as well when echoing."""
        log_file(self._run_dir, command.name).unlink(missing_ok=True)
        self._group.create_task(self._watch(command, await self._spawn(command)))

    async def _spawn(self, command: Command) -> asyncio.subprocess.Process:
        with log_file(self._run_dir, command.name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *leashed(command.argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self._echo else log,
                stderr=asyncio.subprocess.STDOUT,
                # Of their own, so that Ctrl-C in a terminal reaches us alone and the order of stopping is ours.
                process_group=0,
            )
        self._running[command.name] = process
        if process.stdout is not None:
            self._group.create_task(self._copy(command.name, process.stdout))
        return process

    async def stop(self) -> None:
        """Ask everybody to stop, Envoy first so that no stream is left open, and kill who does not in time."""
        self._stopping.set()
        envoy = self._running.pop("envoy", None)
        if envoy is not None:
            await _stop([envoy])
        await _stop(list(self._running.values()))
        self._running.clear()

    async def _watch(self, command: Command, process: asyncio.subprocess.Process) -> None:
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            code = await process.wait()
            if self._stopping.is_set():
                return
            if not command.spare or asyncio.get_running_loop().time() - started < SHORTEST_LIFE:
                raise ChildDied(self._obituary(command.name, code))
            self._say(f"{command.name} ended {_how(code)}; the others go on, and it is started again")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), RESTART_SECONDS)
                return
            process = await self._spawn(command)
        await _stop([process])

    def _obituary(self, name: str, code: int) -> str:
        log = log_file(self._run_dir, name)
        lines = "".join(f"\n  {line}" for line in last_lines(log, SHOWN_LINES))
        return f"{name} ended {_how(code)}; its log {log} says:{lines or ' nothing'}"

    async def _copy(self, name: str, stream: asyncio.StreamReader) -> None:
        with log_file(self._run_dir, name).open("ab") as log:
            while line := await stream.readline():
                log.write(line)
                log.flush()
                sys.stderr.write(f"{name}: {line.decode(errors='replace')}")


def _how(code: int) -> str:
    return f"with status {code}" if code >= 0 else f"by {signal.Signals(-code).name}"


def leashed(argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` until it ends, or this process is gone."""
    # Isolated and without site: these twenty milliseconds are paid for each child.
    return [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *argv]


async def _stop(processes: list[asyncio.subprocess.Process]) -> None:
    for process in processes:
        _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(TERMINATE_SECONDS):
            await asyncio.gather(*(process.wait() for process in processes))
    except TimeoutError:
        for process in processes:
            _signal(process, signal.SIGKILL)
        await asyncio.gather(*(process.wait() for process in processes))


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signal the whole group: a service may have workers of its own."""
    with contextlib.suppress(ProcessLookupError):
        if process.returncode is None:
            os.killpg(process.pid, number)
