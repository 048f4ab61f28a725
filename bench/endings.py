"""How soon the picker knows that a request has ended: by Envoy's access log, and by the response phase.

    inference-gateway up --detach
    python -m bench.endings

Beside the stack's own Envoy, which has the access log, a second one is started on port 8070 with a response phase
(STREAMED) in its place. Figures are in milliseconds and hold a scrape of the picker's metrics (some 3 ms).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import click

MODEL = "llama-3.1-8b-instruct"
ENVOY = Path(sys.executable).with_name("envoy")
CLI = Path(sys.executable).with_name("inference-gateway")


def with_response_phase(offset: int, port: int) -> dict[str, Any]:
    """Return the local Envoy's configuration with a response phase in place of the access log."""
    command = [str(CLI), "render", "--local", "--port-offset", str(offset), "--format", "json"]
    config: dict[str, Any] = json.loads(subprocess.check_output(command))
    config["admin"]["address"]["socketAddress"]["portValue"] = port + 1
    listener = config["staticResources"]["listeners"][0]
    listener["address"]["socketAddress"]["portValue"] = port
    manager = listener["filterChains"][0]["filters"][0]["typedConfig"]
    manager["accessLog"] = []
    (epp,) = (one["typedConfig"] for one in manager["httpFilters"] if one["name"] == "epp")
    epp["processingMode"] |= {"responseHeaderMode": "SEND", "responseBodyMode": "STREAMED"}
    return config


@contextlib.contextmanager
def envoy(config: dict[str, Any]) -> Iterator[None]:
    """Run a second Envoy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "envoy.json"
        path.write_text(json.dumps(config))
        options = ["-c", str(path), "--disable-hot-restart", "--concurrency", "1", "-l", "error"]
        process = subprocess.Popen([str(ENVOY), *options])
        try:
            yield
        finally:
            process.terminate()
            process.wait()


class Bench:
    """One client."""

    def __init__(self, session: aiohttp.ClientSession, metrics: str) -> None:
        self._session = session
        self._metrics = metrics

    async def in_flight(self) -> float:
        """Return what the picker counts now."""
        async with self._session.get(self._metrics) as page:
            found = re.findall(r"^epp_inflight_requests\{.*?\} (\S+)", await page.text(), re.MULTILINE)
        return sum(float(value) for value in found)

    async def lag(self, url: str, *, stream: bool, leave: bool) -> float:
        """Send one request, read its answer or leave in the middle; return milliseconds until it counts no more."""
        text = {"role": "user", "content": "hi"}
        body = {"model": MODEL, "stream": stream, "max_tokens": 400 if leave else 12, "messages": [text]}
        async with self._session.post(f"{url}/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            if leave:
                await answer.content.readany()
                answer.close()
            else:
                await answer.read()
        began = time.perf_counter()
        while await self.in_flight():  # noqa: ASYNC110 - another process counts
            await asyncio.sleep(0.001)
        return (time.perf_counter() - began) * 1000


@contextlib.asynccontextmanager
async def bench(metrics: str) -> AsyncIterator[Bench]:
    """Open a client."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield Bench(session, metrics)


async def ready(url: str) -> None:
    """Wait until Envoy has listeners and endpoints."""
    body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)


async def measure(name: str, url: str, metrics: str, times: int) -> None:
    """Print a line for each way to end."""
    await ready(url)
    async with bench(metrics) as client:
        for how, options in (
            ("whole answer", {"stream": False, "leave": False}),
            ("stream to its end", {"stream": True, "leave": False}),
            ("client leaves a stream", {"stream": True, "leave": True}),
        ):
            lags = sorted([await client.lag(url, **options) for _ in range(times)])
            print(f"{name:15} {how:23} p50 {lags[times // 2]:6.1f}  max {lags[-1]:6.1f}")


@click.command()
@click.option("--port-offset", default=0, help="Of the running stack.")
@click.option("--times", default=20, show_default=True)
def main(port_offset: int, times: int) -> None:
    """Print a table."""
    metrics, port = f"http://127.0.0.1:{9092 + port_offset}/metrics", 8070 + port_offset
    asyncio.run(measure("access log", f"http://127.0.0.1:{8080 + port_offset}", metrics, times))
    with envoy(with_response_phase(port_offset, port)):
        asyncio.run(measure("response phase", f"http://127.0.0.1:{port}", metrics, times))


if __name__ == "__main__":
    main()
