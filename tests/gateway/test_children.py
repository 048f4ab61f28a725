from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tools.gateway import children as module
from tools.gateway.children import ChildDied, Children
from tools.gateway.plan import Command

READY = "print('ready', flush=True); "
FOREVER = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}{FOREVER}"


def python(name: str, code: str) -> Command:
    return Command(name, (sys.executable, "-S", "-c", code))


async def until_log(path: Path, text: str) -> None:
    async with asyncio.timeout(20):
        while not path.exists() or text not in path.read_text():  # noqa: ASYNC110, ASYNC240 - another process
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


async def test_a_child_that_dies_ends_the_group_with_its_last_words(tmp_path):
    """The sentence says who, how, where its log is, and the end of it."""
    code = "import sys; print('first'); print('no such model', file=sys.stderr); sys.exit(3)"

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            await Children(tmp_path, group, echo=False, say=print).start(python("epp", code))
            await asyncio.get_running_loop().create_future()

    with pytest.raises(ExceptionGroup) as raised:
        await run()
    (death,) = raised.value.exceptions
    assert isinstance(death, ChildDied)
    assert str(death).startswith("epp ended with status 3")
    assert f"{tmp_path}/epp.log" in str(death)
    assert "\n  no such model" in str(death)


async def test_a_spare_child_that_dies_is_started_again(tmp_path, monkeypatch):
    """Others do its work meanwhile, and its log keeps what it said before."""
    monkeypatch.setattr(module, "SHORTEST_LIFE", 0.0)
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.0)
    said: list[str] = []
    command = replace(python("epp-2", READY + FOREVER), spare=True)
    async with asyncio.TaskGroup() as group:
        children = Children(tmp_path, group, echo=False, say=said.append)
        await children.start(command)
        await until_log(tmp_path / "epp-2.log", "ready")
        os.kill(children._running["epp-2"].pid, signal.SIGKILL)
        await until_log(tmp_path / "epp-2.log", "ready\nready")
        await children.stop()
    assert said == ["epp-2 ended by SIGKILL; the others go on, and it is started again"]


async def test_a_spare_child_that_cannot_live_ends_the_group(tmp_path):
    """What dies at once would do so for ever."""

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            children = Children(tmp_path, group, echo=False, say=print)
            await children.start(replace(python("epp", "raise SystemExit('bad')"), spare=True))

    with pytest.raises(ExceptionGroup) as raised:
        await run()
    assert isinstance(raised.value.exceptions[0], ChildDied)


async def test_stopping_leaves_nobody_behind(tmp_path, monkeypatch):
    """Who does not leave in time is killed, with the workers it started."""
    monkeypatch.setattr(module, "TERMINATE_SECONDS", 0.2)
    worker = f"import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', {STUBBORN!r}]); "
    async with asyncio.TaskGroup() as group:
        children = Children(tmp_path, group, echo=False, say=print)
        await children.start(python("stubborn", worker + STUBBORN))
        await children.start(python("polite", READY + FOREVER))
        await until_log(tmp_path / "stubborn.log", "ready\nready")
        await until_log(tmp_path / "polite.log", "ready")
        groups = [process.pid for process in children._running.values()]
        await children.stop()
    for process_group in groups:
        with pytest.raises(ProcessLookupError):
            _gone(process_group)


def _gone(process_group: int) -> None:
    """Raise `ProcessLookupError` once nobody of the group is alive; init may take a moment to collect orphans."""
    found = subprocess.run(["pgrep", "-g", str(process_group)], capture_output=True, text=True, check=False)
    if not any(alive(int(pid)) for pid in found.stdout.split()):
        raise ProcessLookupError


async def test_what_a_child_says_goes_to_its_log_and_when_asked_to_the_terminal(tmp_path, capsys):
    """`--log-level debug` shows everybody's log, with names."""
    async with asyncio.TaskGroup() as group:
        children = Children(tmp_path, group, echo=True, say=print)
        await children.start(python("bbr", READY + FOREVER))
        await until_log(tmp_path / "bbr.log", "ready")
        await children.stop()
    assert capsys.readouterr().err == "bbr: ready\n"


async def test_children_die_with_a_parent_that_is_killed(tmp_path):
    """Not even kill -9 leaves a server behind on its port."""
    parent_code = f"""
import asyncio, sys
from pathlib import Path
from tools.gateway.children import Children
from tools.gateway.plan import Command

async def main():
    async with asyncio.TaskGroup() as group:
        children = Children(Path({str(tmp_path)!r}), group, echo=False, say=print)
        await children.start(Command("child", (sys.executable, "-S", "-c", {READY + FOREVER!r})))
        print(children._running["child"].pid, flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", parent_code, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    await until_log(tmp_path / "child.log", "ready")
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    async with asyncio.timeout(20):
        while alive(child):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
