"""How soon the picker knows that a request has ended, for every way to end: by access log and by response phase.

    inference-gateway up --detach
    python -m bench.endings

Two Envoys of its own stand before the stack's services: one with the access log and headers-only streams, as the
stack's own, one with a response phase (STREAMED) in their place. Figures are in milliseconds and hold a scrape of the
picker's metrics (some 3 ms); above two seconds the servers' own counts have repaired what nobody told.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click

from bench.chain.cpu import reading
from services.extproc.background import background

MODEL, ONLY = "llama-3.1-8b-instruct", "recommender"
"""The demo's models: two servers; one server, which can be made to refuse."""
ENVOY = Path(sys.executable).with_name("envoy")
CLI = Path(sys.executable).with_name("inference-gateway")
DEADLINE = "x-bench-deadline"
"""Chooses a copy of the model's route with a short deadline."""
SHORT = "0.300s"
ANSWERS, EVENTS = 100, 60
"""For CPU time: how many answers, and how long they are."""
MOST = 20.0
"""Seconds after which an end counts as never told."""


def rendered(offset: int, port: int) -> dict[str, Any]:
    """Return the local Envoy's configuration on `port`, with two more routes that have short deadlines."""
    command = [str(CLI), "render", "--local", "--port-offset", str(offset), "--format", "json"]
    config: dict[str, Any] = json.loads(subprocess.check_output(command))
    config["node"]["id"] = f"bench-{port}"
    config["admin"]["address"]["socketAddress"]["portValue"] = port + 1
    config["staticResources"]["listeners"][0]["address"]["socketAddress"]["portValue"] = port
    (host,) = _manager(config)["routeConfig"]["virtualHosts"]
    own = [one for one in host["routes"] if one.get("name") == MODEL]
    for which in ("route", "try"):
        for route in copy.deepcopy(own):
            condition = {"name": DEADLINE, "stringMatch": {"exact": which}}
            route["match"].setdefault("headers", []).append(condition)
            if which == "route":
                route["route"]["maxStreamDuration"] = {"maxStreamDuration": SHORT}
            else:
                route["route"]["retryPolicy"]["perTryTimeout"] = SHORT
            host["routes"].insert(0, route)
    return config


def with_response_phase(config: dict[str, Any]) -> dict[str, Any]:
    """Return `config` with a response phase in place of the access log."""
    config = copy.deepcopy(config)
    manager = _manager(config)
    manager["accessLog"] = []
    (epp,) = (one["typedConfig"] for one in manager["httpFilters"] if one["name"] == "epp")
    epp["processingMode"] |= {"responseHeaderMode": "SEND", "responseBodyMode": "STREAMED"}
    return config


def _manager(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["staticResources"]["listeners"][0]["filterChains"][0]["filters"][0]
    manager: dict[str, Any] = found["typedConfig"]
    return manager


class Proxy:
    """One Envoy, started again when a case has ended it."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        self._port = config["staticResources"]["listeners"][0]["address"]["socketAddress"]["portValue"]
        self.url = f"http://127.0.0.1:{self._port}"
        self.admin = f"http://127.0.0.1:{self._port + 1}"
        self._path = folder / f"envoy-{self._port}.json"
        self._path.write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None
        self.spent = False
        """It takes no connections any more."""

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid if self._process is not None else 0

    def ensure(self) -> None:
        """Run."""
        if self.spent:
            self.end(signal.SIGTERM)
            self.spent = False
        if self._process is None or self._process.poll() is not None:
            options = ["-c", str(self._path), "--disable-hot-restart", "--concurrency", "2", "-l", "off"]
            self._process = subprocess.Popen([str(ENVOY), *options])

    def end(self, how: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()


class Bench:
    """One client, and the picker's metrics."""

    def __init__(self, session: aiohttp.ClientSession, metrics: str, proxy: Proxy) -> None:
        self.session = session
        self.proxy = proxy
        self._metrics = metrics
        self.only = ""
        """The address of the server that can be made to refuse."""

    async def page(self) -> str:
        """Scrape."""
        async with self.session.get(self._metrics) as page:
            return await page.text()

    async def in_flight(self) -> float:
        """Return what the picker counts now."""
        found = re.findall(r"^epp_inflight_requests\{.*?\} (\S+)", await self.page(), re.MULTILINE)
        return sum(float(value) for value in found)

    async def releases(self) -> Counter[str]:
        """Return who has released how many."""
        page = await self.page()
        found = re.findall(r'^epp_releases_total\{by="(\w+)".*?\} (\S+)', page, re.MULTILINE)
        repaired = re.findall(r"^epp_inflight_repaired_total\{.*?\} (\S+)", page, re.MULTILINE)
        counts = Counter({"repaired": round(sum(float(value) for value in repaired))})
        for by, value in found:
            counts[by] += round(float(value))
        return counts

    def post(self, *, stream: bool, model: str = MODEL, tokens: int = 12, **headers: str) -> Request:
        """Send a chat; the caller reads."""
        body = {"model": model, "stream": stream, "max_tokens": tokens, "messages": [_HI]}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.post(f"{self.proxy.url}/v1/chat/completions", json=body, headers=named)

    async def counted(self, number: float) -> None:
        """Wait until the picker counts `number`, or for `MOST` seconds."""
        until = time.perf_counter() + MOST
        while await self.in_flight() != number and time.perf_counter() < until:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.001)

    async def healthy(self) -> bool:
        """Say whether the server that can be made to refuse takes connections."""
        with contextlib.suppress(aiohttp.ClientError):
            async with self.session.get(f"http://{self.only}/health") as answer:
                return bool(answer.status == 200)
        return False

    async def ready(self) -> None:
        """Wait until Envoy answers for both models."""
        self.proxy.ensure()
        for model in (MODEL, ONLY):
            while await self._status(model) != 200:  # noqa: ASYNC110 - another process starts
                await asyncio.sleep(0.1)
        await self.counted(0)

    async def _status(self, model: str) -> int:
        with contextlib.suppress(aiohttp.ClientError):
            async with self.post(stream=False, model=model, tokens=1) as answer:
                await answer.read()
                return int(answer.status)
        return 0


Request = AbstractAsyncContextManager[aiohttp.ClientResponse]
_HI = {"role": "user", "content": "hi"}
End = Callable[[Bench], Awaitable[None]]
"""Brings one request to its end, and returns when its client knows."""


async def _read(bench: Bench, *, stream: bool, model: str = MODEL, tokens: int = 12, **headers: str) -> None:
    with contextlib.suppress(aiohttp.ClientError):
        async with bench.post(stream=stream, model=model, tokens=tokens, **headers) as answer:
            await answer.read()


async def whole(bench: Bench) -> None:
    """Read a plain answer."""
    await _read(bench, stream=False)


async def streamed(bench: Bench) -> None:
    """Read a stream to its end."""
    await _read(bench, stream=True)


async def left_before(bench: Bench) -> None:
    """Leave before the answer."""
    async with background(_read(bench, stream=True, x_mock_ttft_ms="60000")):
        await bench.counted(1)


async def left_during(bench: Bench) -> None:
    """Leave a stream."""
    async with bench.post(stream=True, tokens=400, x_mock_token_ms="50") as answer:
        await answer.content.readany()
        answer.close()


async def reset_before(bench: Bench) -> None:
    """Have the server break off before the answer's head."""
    await _read(bench, stream=True, x_mock_fault="reset-after=0")


async def reset_during(bench: Bench) -> None:
    """Have the server break off a stream."""
    await _read(bench, stream=True, tokens=50, x_mock_fault="reset-after=5e")


async def route_timeout(bench: Bench) -> None:
    """Stream until the route's time is up."""
    await _read(bench, stream=True, tokens=400, x_mock_token_ms="50", x_bench_deadline="route")


async def try_timeout(bench: Bench) -> None:
    """Wait until a try's time is up."""
    await _read(bench, stream=False, x_mock_ttft_ms="60000", x_bench_deadline="try")


async def unreachable(bench: Bench) -> None:
    """Ask when no server takes connections."""
    fault = {"refuse": True, "seconds": 1}
    async with bench.session.post(f"http://{bench.only}/admin/faults", json=fault) as answer:
        await answer.read()
    while await bench.healthy():
        pass
    await _read(bench, stream=False, model=ONLY)


async def drained(bench: Bench) -> None:
    """Read a stream to its end while Envoy drains."""
    async with bench.post(stream=True, tokens=20, x_mock_token_ms="20") as answer:
        await answer.content.readany()
        async with bench.session.post(f"{bench.proxy.admin}/drain_listeners?graceful") as done:
            await done.read()
        await answer.read()
    bench.proxy.spent = True


async def _ended_by(bench: Bench, how: signal.Signals) -> None:
    async with bench.post(stream=True, tokens=400, x_mock_token_ms="50") as answer:
        await answer.content.readany()
        bench.proxy.end(how)


async def terminated(bench: Bench) -> None:
    """End Envoy with SIGTERM in a stream."""
    await _ended_by(bench, signal.SIGTERM)


async def killed(bench: Bench) -> None:
    """End Envoy with SIGKILL in a stream."""
    await _ended_by(bench, signal.SIGKILL)


CASES: tuple[tuple[End, int], ...] = (
    (whole, 20),
    (streamed, 20),
    (left_before, 20),
    (left_during, 20),
    (reset_before, 20),
    (reset_during, 20),
    (route_timeout, 10),
    (try_timeout, 10),
    (unreachable, 5),
    (drained, 5),
    (terminated, 5),
    (killed, 5),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One case by one way."""

    lags: list[float]
    by: Counter[str]

    def __str__(self) -> str:
        who = ", ".join(f"{by} {count}" for by, count in self.by.most_common())
        return f"p50 {self.lags[len(self.lags) // 2]:7.1f}  max {self.lags[-1]:7.1f}  {who}"


async def measure(bench: Bench, end: End, times: int) -> Line:
    """Bring `times` requests to their end, one after the other."""
    lags, by = [], Counter[str]()
    for _ in range(times):
        await bench.ready()
        before = await bench.releases()
        await end(bench)
        began = time.perf_counter()
        await bench.counted(0)
        lags.append((time.perf_counter() - began) * 1000)
        by += await bench.releases() - before
    return Line(sorted(lags), by)


@contextlib.contextmanager
def proxies(offset: int, port: int) -> Iterator[dict[str, Proxy]]:
    """Give both Envoys; they run when they are needed."""
    with tempfile.TemporaryDirectory() as folder:
        made = {
            "access log": Proxy(rendered(offset, port), Path(folder)),
            "response phase": Proxy(with_response_phase(rendered(offset, port + 2)), Path(folder)),
        }
        try:
            yield made
        finally:
            for proxy in made.values():
                proxy.end(signal.SIGTERM)


@contextlib.asynccontextmanager
async def client(metrics: str, proxy: Proxy) -> AsyncIterator[Bench]:
    """Open a client."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        bench = Bench(session, metrics, proxy)
        found = re.search(
            r'^epp_inflight_requests\{endpoint="(\S+?)",pool="deepseek"', await bench.page(), re.MULTILINE
        )
        bench.only = found[1] if found else ""
        yield bench


async def cost(bench: Bench, picker: int, *, stream: bool) -> str:
    """Return the CPU time of picker and Envoy for one answer, in microseconds."""
    await bench.ready()
    pids = {"picker": picker, "envoy": bench.proxy.pid}
    before = reading(pids)
    for _ in range(ANSWERS):
        await _read(bench, stream=stream, tokens=EVENTS)
    return "  ".join(
        f"{name} {(now - before[name]) * 1e6 / ANSWERS:6.0f}" for name, now in reading(pids).items()
    )


def picker_at(port: int) -> int:
    """Return the process that was started with this metrics port."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"services.epp" in words and str(port).encode() in words:
                return int(path.parent.name)
    raise click.ClickException(f"no picker with its metrics on port {port}; start `inference-gateway up`")


async def compare(port: int, made: dict[str, Proxy], only: str) -> None:
    """Print a line for each way and case."""
    metrics, picker = f"http://127.0.0.1:{port}/metrics", picker_at(port)
    for name, proxy in made.items():
        async with client(metrics, proxy) as bench:
            for end, times in CASES:
                if only in end.__name__:
                    line = await measure(bench, end, times)
                    print(f"{name:15} {(end.__doc__ or '').rstrip('.'):56} {line}", flush=True)
    for name, proxy in [*made.items()] * 3 if not only else ():
        async with client(metrics, proxy) as bench:
            for stream in (False, True):
                what = f"CPU us for one {'stream' if stream else 'plain answer'} of {EVENTS} tokens"
                print(f"{name:15} {what:56} {await cost(bench, picker, stream=stream)}", flush=True)


@click.command()
@click.option("--port-offset", default=0, help="Of the running stack.")
@click.option("--port", default=8070, show_default=True, help="Four ports from here on are used.")
@click.option("--only", default="", help="Cases whose name has this in it.")
def main(port_offset: int, port: int, only: str) -> None:
    """Print a table."""
    with proxies(port_offset, port) as made:
        asyncio.run(compare(9092 + port_offset, made, only))


if __name__ == "__main__":
    main()
