"""`inference-gateway up` as a child process, and a stack whose parts can be killed one by one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.harness.wait import wait_until
from tools.gateway import binaries
from tools.gateway.checks import check_directory
from tools.gateway.plan import Command, Options, Plan, make_plan
from tools.gateway.ports import PortError, Ports, require_free

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config"
COMMAND = Path(sys.executable).with_name("inference-gateway")
OFFSETS = range(13_600, 13_800, 20)
"""Far from the ports that people use; several, so that two runs on one machine do not meet."""
BASE, ADAPTER, SPLIT, OTHER = "llama-3.1-8b-instruct", "food-review", "chatbot", "recommender"
"""The demo's models: two servers with adapters; one adapter; two pools behind one name; one server."""

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway as its `ready` line describes it."""

    gateway: str
    admin: str
    metrics: dict[str, str]
    models: list[str]
    endpoints: dict[str, list[str]]
    redis: str
    http: httpx.Client = field(kw_only=True)

    def chat(
        self, text: str, *, model: str = BASE, headers: dict[str, str] | None = None, **more: object
    ) -> httpx.Response:
        """Ask one question and return the raw answer."""
        body = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": text}], **more}
        return self.http.post(f"{self.gateway}/v1/chat/completions", json=body, headers=headers)

    def state(self, server: str) -> ServerState:
        """Return what the mock server at `server` says of itself."""
        return ServerState(self.http.get(f"{server}/admin/state").json())

    @property
    def servers(self) -> list[str]:
        return [url for urls in self.endpoints.values() for url in urls]

    def metric(self, service: str, name: str) -> float:
        """Return the sum over all labels of the sample `name` of a service's metrics."""
        text = self.http.get(self.metrics[service]).text
        samples = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, samples))

    def envoy_stat(self, name: str) -> int:
        """Return one of Envoy's counters."""
        stats = self.http.get(f"{self.admin}/stats", params={"filter": f"^{re.escape(name)}$"}).text.split()
        return int(stats[-1]) if stats else 0

    def at_rest(self) -> bool:
        """Say whether no server works and the picker believes so too."""
        try:
            running = [self.state(server).running for server in self.servers]
        except httpx.TransportError:  # one that refuses on demand
            return False
        return not any(running) and self.metric("epp", "epp_inflight_requests") == 0


@dataclass(frozen=True, slots=True)
class ServerState:
    """The answer of a mock server's `/admin/state`."""

    raw: dict[str, object]

    @property
    def running(self) -> int:
        return int(str(self.raw["running"])) + int(str(self.raw["waiting"]))

    def bodies(self) -> set[tuple[int, str]]:
        """Return length and SHA-256 of the last bodies that reached the server."""
        return {(int(str(entry["body_length"])), str(entry["body_sha256"])) for entry in self.last}

    @property
    def last(self) -> list[dict[str, object]]:
        entries: list[dict[str, object]] = self.raw["last"]  # type: ignore[assignment]  # JSON
        return entries


@contextlib.contextmanager
def gateway_running(folder: Path) -> Iterator[Gateway]:
    """Run `inference-gateway up` in `folder` until the block ends, then stop it as Ctrl-C does."""
    offset = free_offset()
    log = folder / "up.log"
    command: list[str | Path] = [COMMAND, "up", "--port-offset", str(offset), "--config-dir", CONFIG]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, cwd=folder) as process,
    ):
        try:
            ready = _ready(process, log)
            with httpx.Client(timeout=30) as http:
                yield Gateway(**ready, http=http)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                status = process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert status == 0, log.read_text()[-2000:]


def free_offset() -> int:
    """Return a port offset at which a whole stack fits."""
    for offset in OFFSETS:
        try:
            require_free(list(Ports.at(offset=offset).named(servers=5, redis=True)))
        except PortError:
            continue
        return offset
    raise PortError("no port offset is free")


def _ready(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    def line() -> str | None:
        found = re.search(r"^ready (\{.*\})$", log.read_text(), re.MULTILINE)
        if found is None and process.poll() is not None:
            raise RuntimeError(f"`up` ended with {process.returncode}: {log.read_text()[-2000:]}")
        return found[1] if found else None

    wait_until(line, "the gateway says that it is ready", deadline=90)
    ready: dict[str, Any] = json.loads(line() or "")
    return ready


class Parts:
    """A stack of which every process can be killed and started again by its name.

    `inference-gateway up` ends when a part of it dies, so this starts the same commands itself.
    """

    def __init__(self, folder: Path) -> None:
        from tools.gateway.envoy import bootstrap  # noqa: PLC0415 - Envoy's API takes a second to load

        options = Options(CONFIG, port_offset=free_offset())
        routes = check_directory(CONFIG)
        self.plan: Plan = make_plan(options, routes.pools, binaries.find(), folder)
        self._folder = folder
        self._http = httpx.Client(timeout=30)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        config = bootstrap.build(routes, self.plan.ports.addresses())
        (folder / "envoy.json").write_text(bootstrap.to_json(config))

    def start(self, name: str) -> None:
        """Start the part `name`; its output goes to a log in the folder."""
        command = self._commands[name]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command.argv, stdout=log, stderr=log, cwd=self._folder)

    def kill(self, name: str) -> None:
        """End the part `name` as a crash would: SIGKILL, no farewell."""
        process = self._processes.pop(name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def start_all(self) -> None:
        """Start everything, Envoy last, because it asks the picker for members as soon as it runs."""
        for name in self._commands:
            self.start(name)

    def kill_all(self) -> None:
        self._http.close()
        for name in list(self._processes):
            self.kill(name)

    @property
    def gateway(self) -> Gateway:
        ports = self.plan.ports
        return Gateway(
            f"http://127.0.0.1:{ports.gateway}",
            f"http://127.0.0.1:{ports.admin}",
            {"epp": f"http://127.0.0.1:{ports.epp.metrics}/metrics"},
            [],
            {pool: list(urls) for pool, urls in self.plan.endpoints.items()},
            self.plan.redis_url,
            http=self._http,
        )

    @property
    def _commands(self) -> dict[str, Command]:
        plan = self.plan
        redis = [plan.redis_command] if plan.redis_command else []
        return {command.name: command for command in (*redis, *plan.servers, *plan.services, plan.envoy)}
