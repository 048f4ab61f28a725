"""`python -m bench.replicas.fleet SPEED KV_BLOCKS PORT…`: mock model servers of one pool, all in one process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import sys

import uvloop

from tools.model_server.constants import LLAMA_8B_H100
from tools.model_server.core import Settings
from tools.model_server.server import serve


async def run(speed: float, kv_blocks: int, ports: list[int]) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    profile = dataclasses.replace(LLAMA_8B_H100.scaled(speed), kv_blocks=kv_blocks)
    async with contextlib.AsyncExitStack() as stack:
        for number, port in enumerate(ports, 1):
            settings = Settings(name=f"server-{number}", profile=profile)
            await stack.enter_async_context(serve(settings, port=port))
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(run(float(sys.argv[1]), int(sys.argv[2]), [int(port) for port in sys.argv[3:]]))
