"""The picker's process alone: CPU time for one request by the length of its prompt, with headers only. No body passes by.

    python -m bench.picker_cpu

A client speaks ext_proc to the picker as Envoy does behind the router: one message with headers and digest for each
stream. Prompts of both lengths take turns, so that whatever else the machine does hits them alike. Every prompt is new
until the last has been sent once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import grpc
import msgspec

from bench.chain.cpu import cpu_seconds
from bench.chain.machine import machine
from bench.chain.stack import free_ports
from bench.chain.workload import Workload
from bench.cost.protocol import request_headers
from services.extproc.servicer import SERVICE_NAME
from services.openai.dialects import Dialect
from services.openai.digest import digest_of, encode
from services.openai.peek import peek

SIZES = (2_000, 200_000)
CONCURRENCIES = (1, 8)
PROMPTS = 512
RESULT = Path(__file__).parent / "results/picker_cpu.json"
ROOT = Path(__file__).parents[1]
LOOPBACK = "127.0.0.1"
SETTLE_SECONDS = 0.1
START_SECONDS = 60.0


def messages(size: int) -> list[bytes]:
    """Return header messages with the digests of different prompts."""
    bodies = (request.partition(b"\r\n\r\n")[2] for request in Workload(size, stream=False).requests())
    seen = (peek(body, Dialect.CHAT) for body in itertools.islice(bodies, PROMPTS))
    return [
        request_headers("NONE", {}, {"gw.bbr": {"digest": encode(digest_of(one, one.model))}}) for one in seen
    ]


@contextlib.contextmanager
def picker() -> Iterator[tuple[int, int]]:
    """Run a picker with the configuration of `config/` before two idle backends; yield its process id and its port."""
    grpc_port, health, metrics, *backends = free_ports(5)
    command = [sys.executable, "-m", "bench.chain.backend", *map(str, backends)]
    ours = [
        *(sys.executable, "-m", "services.epp", "--config=config/epp.yaml", f"--host={LOOPBACK}"),
        *(f"--port={grpc_port}", f"--health-port={health}", f"--metrics-port={metrics}", "--log-level=error"),
        *(
            f"--endpoint={pool}=http://{LOOPBACK}:{port}"
            for pool in ("llama", "gemma", "gemma-new", "deepseek")
            for port in backends
        ),
    ]
    with subprocess.Popen(command, cwd=ROOT) as backend, subprocess.Popen(ours, cwd=ROOT) as process:
        try:
            yield process.pid, grpc_port
        finally:
            process.terminate()
            backend.terminate()


class Client:
    """Opens streams to the picker."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._open: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            f"/{SERVICE_NAME}/Process"
        )

    async def pick(self, message: bytes) -> bool:
        """Ask once; return whether a server was picked."""
        call = self._open(metadata=grpc.aio.Metadata(("x-gateway-pool", "llama")))
        await call.write(message)
        reply = await call.read()
        await call.done_writing()
        await call.read()
        return isinstance(reply, bytes) and b"x-gateway-destination-endpoint" in reply

    async def ready(self, message: bytes) -> None:
        """Wait until a server is picked."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    if await self.pick(message):
                        return
                await asyncio.sleep(0.1)

    async def load(self, messages: Iterator[bytes], concurrency: int) -> None:
        """Ask for each of `messages`."""

        async def worker() -> None:
            for message in messages:
                if not await self.pick(message):
                    raise SystemExit("bench: a request was not picked for")

        await asyncio.gather(*(worker() for _ in range(concurrency)))


async def measure(rounds: int, requests: int) -> dict[tuple[int, int], list[float]]:
    """Return µs of CPU for one request, by size and concurrency, one figure for each round after the first."""
    sent = {size: itertools.cycle(messages(size)) for size in SIZES}
    used: dict[tuple[int, int], list[float]] = {cell: [] for cell in itertools.product(SIZES, CONCURRENCIES)}
    with picker() as (pid, port):
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}") as channel:
            client = Client(channel)
            await client.ready(next(sent[SIZES[0]]))
            for number in range(rounds + 1):
                for (size, concurrency), figures in used.items():
                    before = cpu_seconds(pid)
                    await client.load(itertools.islice(sent[size], requests), concurrency)
                    await asyncio.sleep(SETTLE_SECONDS)
                    if number:
                        figures.append(1e6 * (cpu_seconds(pid) - before) / requests)
    return used


def report(used: Mapping[tuple[int, int], Sequence[float]]) -> list[dict[str, float]]:
    """Return a row for each concurrency."""
    rows = []
    for concurrency in CONCURRENCIES:
        short, long = (statistics.median(used[size, concurrency]) for size in SIZES)
        ratios = [b / a for a, b in zip(*(used[size, concurrency] for size in SIZES), strict=True)]
        rows.append(
            {
                "concurrency": concurrency,
                "short_us": round(short, 1),
                "long_us": round(long, 1),
                "ratio": round(statistics.median(ratios), 3),
            }
        )
    return rows


@click.command(context_settings={"show_default": True})
@click.option("--rounds", default=10)
@click.option("--requests", default=400, help="In each round and cell.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULT, help="Where the JSON goes.")
def main(rounds: int, requests: int, output: Path) -> None:
    """Print a line of JSON for each concurrency."""
    rows = report(asyncio.run(measure(rounds, requests)))
    figures = {"machine": machine(), "prompt_bytes": SIZES, "rows": rows}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
    for row in rows:
        print(msgspec.json.encode(row).decode())


if __name__ == "__main__":
    main()
