"""The comparison once more in real time: the running gateway against Envoy's own load balancing.

    python -m bench.routing.live            # some seven minutes, most of them waiting

Four mock model servers run at 0.4 times the pace of the `llama-8b-h100` profile, and start anew for each policy. The default
profile is `inference-gateway up` with all its filters; `ROUND_ROBIN` and `LEAST_REQUEST` are Envoy with one cluster and
no filter, so that what the chain costs is against us.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp
import click
import msgspec

from bench.routing.checks import LIVE, Live
from tools.gateway import binaries
from tools.gateway.demo import LLAMA
from tools.workload.conversations import Shape, conversations
from tools.workload.replay import Answer, measured_hits, replay
from tools.workload.requests import TimedRequest

LOOPBACK = "127.0.0.1"
SERVERS = 4
PACE = "0.4"
SHAPE = Shape(
    sessions=70,
    tenants=40,
    system_tokens=2000,
    turns=(2, 5),
    question_tokens=(20, 200),
    answer_tokens=(20, 60),
    arrivals_per_second=1.6,
    burst_share=0.1,
    burst_sessions=4,
    think_seconds=2.0,
)
"""Some five requests a second: round robin computes about 1,000 tokens for each, affinity a third of it."""
DEFAULT = "default profile"
ENVOY = {"round robin in Envoy": "ROUND_ROBIN", "least request in Envoy": "LEAST_REQUEST"}
START_SECONDS = 90.0


class Client:
    """Asks for streams, and notes when their first token came."""

    def __init__(self, http: aiohttp.ClientSession, gateway: str) -> None:
        self._http = http
        self._url = f"{gateway}/v1/chat/completions"
        self.first_tokens: list[float] = []

    async def __call__(self, request: TimedRequest) -> Answer:
        """Send `request` and return its answer; a refusal and a broken connection are answers too."""
        body = {**request.chat(LLAMA), "stream": True, "stream_options": {"include_usage": True}}
        started, first, usage = time.perf_counter(), 0.0, _Usage()
        try:
            async with self._http.post(self._url, json=body) as response:
                async for line in response.content:
                    if not line.startswith(b"data: {"):
                        continue
                    event = _DECODER.decode(line[6:])
                    if not first and any(choice.delta.content for choice in event.choices):
                        first = time.perf_counter() - started
                    usage = event.usage or usage
        except aiohttp.ClientError:
            return Answer(request, 0, seconds=time.perf_counter() - started)
        if response.status == HTTPStatus.OK and first:
            self.first_tokens.append(first)
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
        server = response.headers.get("x-served-by", "")
        seconds = time.perf_counter() - started
        return Answer(request, response.status, server, usage.prompt_tokens, cached, seconds)


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_DECODER = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class Played:
    """What clients saw of one workload."""

    answers: Sequence[Answer]
    first_tokens: Sequence[float]
    """Seconds until each."""


def summed(policy: str, runs: Sequence[Played]) -> Live:
    """Sum up one policy's `runs`, whose servers began anew each time."""
    answers = [answer for run in runs for answer in run.answers]
    good = [answer for answer in answers if answer.status == HTTPStatus.OK]
    ordered = sorted(first for run in runs for first in run.first_tokens)
    return Live(
        policy=policy,
        requests=len(answers),
        ttft_p50=_ms(ordered, 0.5),
        ttft_p90=_ms(ordered, 0.9),
        ttft_p99=_ms(ordered, 0.99),
        e2e_mean=round(1000 * sum(answer.seconds for answer in good) / max(1, len(good)), 1),
        hits=round(measured_hits(good).rate, 4),
        imbalance=round(statistics.fmean(_imbalance(run.answers) for run in runs), 3),
        failed=len(answers) - len(good),
    )


def _imbalance(answers: Sequence[Answer]) -> float:
    """Return the busiest server's requests over the mean."""
    by = Counter(answer.server for answer in answers if answer.status == HTTPStatus.OK)
    return max(by.values(), default=0) * SERVERS / max(1, by.total())


def _ms(ordered: Sequence[float], share: float) -> float:
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else math.nan


def envoy_config(policy: str, listen: int, admin: int, servers: Sequence[int]) -> dict[str, object]:
    """Return an Envoy with one cluster of `servers` under the load balancing `policy`, and nothing else."""
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "servers", "timeout": "0s"}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [router],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    members = [{"endpoint": {"address": _address(port)}} for port in servers]
    cluster = {
        "name": "servers",
        "type": "STATIC",
        "lb_policy": policy,
        "load_assignment": {"cluster_name": "servers", "endpoints": [{"lb_endpoints": members}]},
    }
    listener = {"name": "gateway", "address": _address(listen), "filter_chains": [chain]}
    return {
        "admin": {"address": _address(admin)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


@contextlib.contextmanager
def fleet(offset: int, folder: Path) -> Iterator[list[int]]:
    """Run the mock servers until the block ends; yield their ports."""
    ports = [8201 + offset + number for number in range(SERVERS)]
    with contextlib.ExitStack() as cleanup:
        for number, port in enumerate(ports):
            flags = [
                "--port",
                str(port),
                "--name",
                f"mock-{number}",
                "--model",
                LLAMA,
                "--log-level",
                "warning",
            ]
            pace = ["--profile", "llama-8b-h100", "--time-scale", PACE]
            _start(
                cleanup,
                folder / f"mock-{number}.log",
                [sys.executable, "-m", "tools.model_server", *flags, *pace],
            )
        for port in ports:
            _await(f"http://{LOOPBACK}:{port}/health")
        yield ports


@contextlib.contextmanager
def proxy(policy: str, offset: int, servers: Sequence[int], folder: Path) -> Iterator[str]:
    """Run what stands in front of `servers` until the block ends; yield its URL."""
    listen = 8080 + offset
    with contextlib.ExitStack() as cleanup:
        if policy == DEFAULT:
            up = Path(sys.executable).with_name("inference-gateway")
            endpoints = [f"--endpoint=llama=http://{LOOPBACK}:{port}" for port in servers]
            log = folder / "up.log"
            process = _start(cleanup, log, [str(up), "up", "--port-offset", str(offset), *endpoints])
            _await_ready(process, log)
        else:
            config = folder / "envoy.json"
            config.write_text(json.dumps(envoy_config(ENVOY[policy], listen, 9901 + offset, servers)))
            options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
            _start(cleanup, folder / "envoy.log", [str(binaries.find().envoy), "-c", str(config), *options])
            _await(f"http://{LOOPBACK}:{listen}/health")
        yield f"http://{LOOPBACK}:{listen}"


def _start(cleanup: contextlib.ExitStack, log: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    output = cleanup.enter_context(log.open("wb"))
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    cleanup.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: {url} does not answer: {error}") from error
            time.sleep(0.2)


def _await_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while re.search(r"^ready \{", log.read_text(), re.MULTILINE) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"bench: the gateway does not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


async def play(url: str, requests: Sequence[TimedRequest]) -> Played:
    """Send the workload at its own pace."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        client = Client(http, url)
        answers = await replay(requests, client)
    return Played(answers, client.first_tokens)


@click.command(help=__doc__)
@click.option("--port-offset", default=22_000, show_default=True, help="As for `inference-gateway up`.")
@click.option("--seeds", default="1,2,3", show_default=True)
def main(port_offset: int, seeds: str) -> None:
    """Play each seed to one policy after the other, and keep what they came to."""
    runs: dict[str, list[Played]] = {policy: [] for policy in (DEFAULT, *ENVOY)}
    for seed in map(int, seeds.split(",")):
        requests = conversations(SHAPE, seed)
        for policy, played in runs.items():
            click.echo(f"seed {seed}, {policy}: {len(requests)} requests …", err=True)
            with tempfile.TemporaryDirectory(prefix="gateway-live-") as name:
                folder = Path(name)
                with (
                    fleet(port_offset, folder) as servers,
                    proxy(policy, port_offset, servers, folder) as url,
                ):
                    played.append(asyncio.run(play(url, requests)))
            click.echo(msgspec.json.encode(summed(policy, played[-1:])).decode())
    rows = [summed(policy, played) for policy, played in runs.items()]
    LIVE.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")


if __name__ == "__main__":
    main()
