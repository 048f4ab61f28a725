"""The real stack for a run: a fleet of mocks, a Redis-protocol server, N pickers, Envoy. Everything can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import yaml

from bench.chain.cpu import cpu_seconds
from tools.gateway import binaries
from tools.gateway.checks import read_routes
from tools.gateway.children import leashed
from tools.gateway.plan import NO_REDIS, Command, Options, Plan, make_plan
from tools.gateway.ports import require_free
from tools.gateway.probes import usable_members

ROOT = Path(__file__).parents[2]
SKEWED = Path(__file__).with_name("skewed.py")
POOL, MODEL = "llama", "llama-3.1-8b-instruct"
START_SECONDS = 300.0
"""Eight pickers that import their modules at once on two busy cores."""
FIRST_SERVER = 8111
"""Mocks listen from here on, above those that `up` would start."""
REDIS = 6391


@dataclass(frozen=True, slots=True)
class Setup:
    """What to run."""

    replicas: int
    shared: bool = True
    servers: int = 8
    speed: float = 1.0
    """Of the model servers, against an H100 with an 8B model."""
    kv_blocks: int = 8192
    port_offset: int = 12_000
    proxies: Sequence[int] = ()
    """Where each replica finds Redis, in place of its own port."""
    skew: Mapping[str, float] = field(default_factory=dict)
    """Seconds by which a replica's clocks are off."""

    @property
    def epps(self) -> list[str]:
        """The names of the replicas."""
        return ["epp", *(f"epp-{number}" for number in range(2, self.replicas + 1))]


class Stack:
    """A running stack, whose files are in `folder`. Redis runs even where the replicas do not use it."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.setup = setup
        self.folder = folder
        offset = setup.port_offset
        self.redis_port = REDIS + offset
        self.server_ports = [FIRST_SERVER + offset + number for number in range(setup.servers)]
        options = Options(
            write_config(folder),
            port_offset=offset,
            endpoints=tuple(f"{POOL}=http://127.0.0.1:{port}" for port in self.server_ports),
            redis=f"redis://127.0.0.1:{self.redis_port}/0" if setup.shared else NO_REDIS,
            log_level="info",
            epp_replicas=setup.replicas,
        )
        self.plan: Plan = make_plan(options, (POOL,), binaries.find(), folder)
        self.gateway = f"http://127.0.0.1:{self.plan.ports.gateway}"
        self.admin = f"http://127.0.0.1:{self.plan.ports.admin}"
        self.access_log = folder / "access.log"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.commands = {command.name: command for command in self._all()}

    def start(self, name: str) -> None:
        """Start the process `name`; its output goes to a log of its name."""
        with self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                leashed(self.commands[name].argv), stdout=log, stderr=log, cwd=ROOT, process_group=0
            )

    def kill(self, name: str) -> None:
        """End the process `name` as a crash would."""
        process = self._processes.pop(name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def group(self, name: str) -> int:
        """Return the process group of `name`."""
        return os.getpgid(self._processes[name].pid)

    def stop_all(self) -> None:
        """End everything, Envoy first."""
        for name in sorted(self._processes, key=lambda name: name != "envoy"):
            self.kill(name)

    def log(self, name: str) -> Path:
        """Return the log of the process `name`."""
        return self.folder / f"{name}.log"

    def cpu(self, names: Iterable[str]) -> float:
        """Return the CPU seconds that these processes have used."""
        return sum(cpu_seconds(self._processes[name].pid) for name in names)

    def metrics_url(self, name: str) -> str:
        """Return where the service `name` has its metrics."""
        return f"http://127.0.0.1:{self.plan.service_ports[name].metrics}/metrics"

    def _all(self) -> Iterable[Command]:
        ports = [str(port) for port in self.server_ports]
        arguments = (str(self.setup.speed), str(self.setup.kv_blocks), *ports)
        yield Command("fleet", (sys.executable, "-m", "bench.replicas.fleet", *arguments))
        nothing_kept = ("--save", "", "--appendonly", "no", "--dir", str(self.folder))
        redis = (str(binaries.find().redis), "--bind", "127.0.0.1", "--port", str(self.redis_port))
        yield Command("redis", (*redis, *nothing_kept))
        for command in self.plan.services:
            yield self._adjusted(command)
        # Its access log is read while it runs.
        yield replace(self.plan.envoy, argv=(*self.plan.envoy.argv, "--file-flush-interval-msec", "100"))

    def _adjusted(self, command: Command) -> Command:
        """Return the command with what this setup wants of a single replica put in."""
        argv = command.argv
        if self.setup.proxies and command.name in self.setup.epps:
            port = self.setup.proxies[self.setup.epps.index(command.name)]
            old, new = self.plan.redis_url, f"redis://127.0.0.1:{port}/0"
            argv = tuple(new if part == old else part for part in argv)
        if command.name in self.setup.skew:
            # By its path: the stack runs in a folder of its own, and only what is installed is found from there.
            module = argv.index("services.epp")
            skewed = (str(SKEWED), str(self.setup.skew[command.name]))
            argv = (*argv[: module - 1], *skewed, *argv[module + 1 :])
        return replace(command, argv=argv)


def write_config(folder: Path) -> Path:
    """Write the demo's configuration, less all pools but one, and return where it is."""
    config = folder / "config"
    config.mkdir()
    for name in ("bbr", "safety"):
        shutil.copy(ROOT / "config" / f"{name}.yaml", config)
    epp = yaml.safe_load((ROOT / "config/epp.yaml").read_text())
    epp["pools"] = [pool for pool in epp["pools"] if pool["name"] == POOL]
    (config / "epp.yaml").write_text(yaml.safe_dump(epp))
    routes = yaml.safe_load((ROOT / "config/routes.yaml").read_text())
    # Answers pass unchecked: on two cores the load should be that of the pickers.
    routes["routes"] = [{"base_model": MODEL, "pools": [{"pool": POOL}], "check_answers": False}]
    (config / "routes.yaml").write_text(yaml.safe_dump(routes))
    return config


@contextlib.asynccontextmanager
async def running(setup: Setup, folder: Path) -> AsyncIterator[Stack]:
    """Run a stack until the block ends; begin when Envoy finds every replica and every model server."""
    stack = Stack(setup, folder)
    used = [(f"server {port}", port) for port in (*stack.server_ports, stack.redis_port)]
    require_free([*stack.plan.run_ports, *used])
    await asyncio.to_thread(_write_envoy, stack)
    try:
        for name in stack.commands:
            if name != "envoy":
                stack.start(name)
        async with aiohttp.ClientSession() as http:
            await until(lambda: _services_answer(stack, http), stack)
            stack.start("envoy")
            await until(lambda: sees_all(stack, http), stack)
        yield stack
    finally:
        stack.stop_all()


def _write_envoy(stack: Stack) -> None:
    from tools.gateway.envoy import bootstrap  # noqa: PLC0415 - Envoy's API takes a second to load

    routes = read_routes(stack.folder / "config/routes.yaml")
    addresses = replace(stack.plan.addresses(), access_log=str(stack.access_log))
    (stack.folder / "envoy.json").write_text(bootstrap.to_json(bootstrap.build(routes, addresses)))


async def until(holds: Callable[[], object], stack: Stack, *, seconds: float = START_SECONDS) -> None:
    """Wait until `await holds()`; raise `TimeoutError` that says where the logs are."""
    try:
        async with asyncio.timeout(seconds):
            while not await holds():  # type: ignore[misc]  # an awaitable  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise TimeoutError(f"not within {seconds:.0f} s; logs in {stack.folder}") from error


async def sees_all(stack: Stack, http: aiohttp.ClientSession) -> bool:
    """Say whether Envoy finds every replica healthy and knows every model server."""
    try:
        async with http.get(f"{stack.admin}/clusters?format=json") as answer:
            members = usable_members(await answer.read())
    except aiohttp.ClientError:
        return False
    wanted = {"epp": stack.setup.replicas, f"pool-{POOL}": stack.setup.servers, "bbr": 1, "safety": 1}
    return all(len(members.get(name, ())) == count for name, count in wanted.items())


async def _services_answer(stack: Stack, http: aiohttp.ClientSession) -> bool:
    for name in stack.plan.service_ports:
        if await page(http, stack.metrics_url(name)) is None:
            return False
    return True


async def page(http: aiohttp.ClientSession, url: str) -> str | None:
    """Return the text at `url`, None when nobody gives it."""
    try:
        async with http.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
            return await answer.text() if answer.ok else None
    except (aiohttp.ClientError, TimeoutError):
        return None


def samples(text: str, name: str) -> list[tuple[str, float]]:
    """Return labels and values of the samples called `name` in a page of Prometheus metrics."""
    found = re.findall(rf"^{re.escape(name)}(\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    return [(labels, float(value)) for labels, value in found]


def total(text: str, name: str) -> float:
    """Return the sum of the samples called `name`."""
    return sum(value for _, value in samples(text, name))
