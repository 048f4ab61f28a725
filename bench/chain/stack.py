"""Starts what the benchmark measures: the services and the backend once, and one Envoy for each row of the table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.chain import client
from bench.chain.rows import LOOPBACK, NOOP, ROWS, Ports, Row, envoy_config
from bench.chain.workload import Workload

ROOT = Path(__file__).parents[2]
POOLS = ("llama", "gemma", "gemma-new", "deepseek")
ENVOY_THREADS = 2
START_SECONDS = 60.0  # until the last part must answer


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack."""

    gateways: dict[str, int]
    """The port of each row's Envoy, by the row's title."""
    services: dict[str, int]
    """The process ids of bbr, safety, epp, noop and the backend."""
    envoys: dict[str, int]
    """The process id of each row's Envoy."""

    def pids(self, row: Row) -> dict[str, int]:
        """Return the processes that a request of `row` goes through."""
        return {"envoy": self.envoys[row.title], **{name: self.services[name] for name in row.filters}}


@contextlib.contextmanager
def running(rows: Sequence[Row] = ROWS) -> Iterator[Stack]:
    """Start everything on free ports of loopback, wait until each row answers, and stop everything at the end."""
    with contextlib.ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        free = free_ports(12 + 2 * len(rows))
        ports = Ports(free.pop(), free.pop(), free.pop(), free.pop(), (free.pop(), free.pop()))
        services = {
            name: _start(cleanup, folder / f"{name}.log", command)
            for name, command in _commands(ports, free).items()
        }
        gateways, envoys = {}, {}
        for index, row in enumerate(rows):
            gateways[row.title] = port = free.pop()
            config = folder / f"envoy-{index}.json"
            routes = (ROOT / "config/routes.yaml").read_text()
            config.write_text(json.dumps(envoy_config(row, routes, ports, listen=port, admin=free.pop())))
            envoys[row.title] = _start(cleanup, folder / f"envoy-{index}.log", _envoy(config))
        _await_answers(gateways, folder)
        yield Stack(gateways, services, envoys)


def _commands(ports: Ports, free: list[int]) -> dict[str, list[str]]:
    backends = [f"--endpoint={pool}=http://{LOOPBACK}:{port}" for pool in POOLS for port in ports.backends]
    own = {"bbr": ports.bbr, "safety": ports.safety, "epp": ports.epp}
    services = {
        name: [
            *_python(
                f"services.{name}", f"--config=config/{name}.yaml", f"--host={LOOPBACK}", f"--port={port}"
            ),
            f"--health-port={free.pop()}",
            f"--metrics-port={free.pop()}",
            "--log-level=warning",
        ]
        for name, port in own.items()
    }
    services["epp"] += backends
    services[NOOP] = _python("bench.chain.noop", str(ports.noop))
    services["backend"] = _python("bench.chain.backend", *map(str, ports.backends))
    return services


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _envoy(config: Path) -> list[str]:
    options = ["--concurrency", str(ENVOY_THREADS), "--disable-hot-restart", "--log-level", "warning"]
    # The script beside the interpreter execs the binary, so the process id is Envoy's.
    return [str(Path(sys.executable).with_name("envoy")), "-c", str(config), *options]


def _start(cleanup: contextlib.ExitStack, log: Path, command: list[str]) -> int:
    output = cleanup.enter_context(log.open("wb"))
    process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    cleanup.callback(_stop, process)
    return process.pid


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await_answers(gateways: dict[str, int], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    for title, port in gateways.items():
        while (problem := _ask(port)) is not None:
            if time.monotonic() > deadline:
                logs = "\n".join(
                    f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(folder.glob("*.log"))
                )
                raise SystemExit(f"bench: “{title}” does not answer: {problem}\n{logs}")
            time.sleep(0.2)


def _ask(port: int) -> Exception | None:
    requests = Workload(size=200, stream=False).requests()
    try:
        asyncio.run(client.run(port, requests, count=1, concurrency=1))
    except (OSError, RuntimeError) as error:
        return error
    return None


def free_ports(count: int) -> list[int]:
    """Return ports that are free now; all are held at once, so that none is handed out twice."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]
