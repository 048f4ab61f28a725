"""The whole stack's life: started, used, refused twice, and gone, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.gateway.stack import free_offset
from tests.e2e.harness.wait import wait_until
from tools.gateway.children import SHORTEST_LIFE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]


def command(offset: int, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "tools.gateway.cli", "up"),
        *("--port-offset", str(offset), "--config-dir", str(ROOT / "config")),
        *more,
    ]


class Stack:
    """`inference-gateway up` in a session of its own, whose processes can be counted."""

    def __init__(self, offset: int, cwd: Path, *more: str) -> None:
        self.process = subprocess.Popen(
            command(offset, *more),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def until_ready(self) -> dict[str, object]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ready {"):
                found: dict[str, object] = json.loads(line[6:])
                return found
        assert self.process.stderr is not None
        raise AssertionError(self.process.stderr.read())

    def others(self) -> set[int]:
        """Return who else is in the session: the children, for they do not leave it."""
        run = subprocess.run(
            ["pgrep", "-s", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return {int(pid) for pid in run.stdout.split()} - {self.process.pid}

    def pid_of(self, port: int) -> int | None:
        """Return the process that was told to listen on `port`."""
        for pid in self.others():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except FileNotFoundError:
                continue  # it has ended meanwhile
            if b"--port" in words and words[words.index(b"--port") + 1] == str(port).encode():
                return pid
        return None

    def nobody_left(self) -> bool:
        deadline = time.monotonic() + 10
        while self.others() and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.others()


@pytest.fixture
def offset() -> int:
    return free_offset()


@pytest.fixture
def stack(tmp_path: Path, offset: int) -> Iterator[Stack]:
    started = Stack(offset, tmp_path)
    yield started
    started.process.kill()
    started.process.communicate()


def up(offset: int, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(offset), *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_ready_means_ready_and_an_interrupt_leaves_nobody(stack):
    """Every key of the ready line can be used at once; Ctrl-C ends with status 0."""
    ready = stack.until_ready()
    assert set(ready) == {"gateway", "admin", "metrics", "models", "endpoints", "redis"}
    body = {"model": "chatbot", "messages": [{"role": "user", "content": "echo: it runs"}]}
    answer = httpx.post(f"{ready['gateway']}/v1/chat/completions", json=body, timeout=30)
    assert answer.json()["choices"][0]["message"]["content"] == "it runs"
    assert {pool: len(urls) for pool, urls in ready["endpoints"].items()} == {
        "llama": 2,
        "gemma": 1,
        "gemma-new": 1,
        "deepseek": 1,
    }
    assert all(httpx.get(url, timeout=30).is_success for url in ready["metrics"].values())
    stack.process.send_signal(signal.SIGINT)
    _, errors = stack.process.communicate()
    assert (stack.process.returncode, "Traceback" in errors) == (0, False)
    assert stack.nobody_left()


def test_an_interrupt_while_it_starts_leaves_nobody(stack):
    """Ctrl-C works from the first moment on."""
    assert stack.process.stderr is not None
    assert "logs and Envoy's configuration" in stack.process.stderr.readline()
    stack.process.send_signal(signal.SIGINT)
    _, errors = stack.process.communicate()
    assert (stack.process.returncode, "Traceback" in errors) == (0, False)
    assert stack.nobody_left()


def test_a_child_that_dies_takes_the_stack_with_it_and_says_why(stack, tmp_path, offset):
    """Half a gateway is worse than none."""
    stack.until_ready()
    victim = next(
        pid for pid in stack.others() if b"services.epp" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(victim, signal.SIGKILL)
    _, errors = stack.process.communicate()
    assert stack.process.returncode == 1
    assert f"epp ended by SIGKILL; its log {tmp_path}/.run/{8080 + offset}/epp.log says:" in errors
    assert stack.nobody_left()


def test_a_replica_that_dies_is_started_again_and_the_gateway_stays(tmp_path, offset):
    """It is said on the terminal; whoever asks meanwhile is answered by the other."""
    stack = Stack(offset, tmp_path, "--epp-replicas", "2")
    try:
        ready = stack.until_ready()
        metrics = ready["metrics"]
        assert isinstance(metrics, dict)
        assert {"epp", "epp-2"} <= set(metrics)
        first = stack.pid_of(9200 + offset)
        assert first is not None
        wait_until(lambda: age(first) > SHORTEST_LIFE + 1, "it has lived long enough to be started again")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: stack.pid_of(9200 + offset) not in {None, first}, "it is started again")
        body = {"model": "chatbot", "messages": [{"role": "user", "content": "echo: it runs"}]}
        assert httpx.post(f"{ready['gateway']}/v1/chat/completions", json=body, timeout=30).is_success
        stack.process.send_signal(signal.SIGINT)
        _, errors = stack.process.communicate()
        assert stack.process.returncode == 0
        assert "epp-2 ended by SIGKILL; the others go on, and it is started again" in errors
    finally:
        stack.process.kill()
        stack.process.communicate()


def age(pid: int) -> float:
    """Return the seconds since the process began, by the kernel's clock."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def test_nobody_outlives_a_supervisor_that_is_killed(stack):
    """Not even kill -9 leaves a server on its port."""
    stack.until_ready()
    assert len(stack.others()) == 10
    stack.process.kill()
    assert stack.nobody_left()


def test_a_detached_stack_runs_on_and_stops_when_told(tmp_path, offset):
    """It prints the same ready line, and is found again by its port."""
    detached = up(offset, "--detach", cwd=tmp_path)
    try:
        assert detached.returncode == 0, detached.stderr
        ready = json.loads(detached.stdout.splitlines()[0].removeprefix("ready "))
        assert httpx.get(f"{ready['gateway']}/v1/models", timeout=30).is_success
        second = up(offset, "--detach", cwd=tmp_path)
        assert (second.returncode, second.stderr.count("\n")) == (1, 1)
    finally:
        stopped = up(offset, "--stop", cwd=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{ready['gateway']}/v1/models", timeout=30)
