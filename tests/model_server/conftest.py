"""Servers on free loopback ports, and an engine whose times are easy to reckon."""

from __future__ import annotations

import openai
import pytest
import uvloop

from tools.model_server.core import Settings
from tools.model_server.server import serve

MODEL = "llama-3.1-8b-instruct"
ADAPTER = "food-review"


@pytest.fixture
def event_loop_policy():
    """Return the event loop that the server runs on in earnest."""
    return uvloop.EventLoopPolicy()


@pytest.fixture
async def server():
    """Run a demo server with one adapter and its admin API on a port of its own."""
    async with serve(Settings(name="mock-7", model=MODEL, adapters=(ADAPTER,)), admin_port=0) as running:
        yield running


@pytest.fixture
async def sdk(server):
    """Return the official client, which never retries."""
    async with openai.AsyncOpenAI(
        base_url=server.url + "/v1", api_key="unused", max_retries=0, timeout=10
    ) as client:
        yield client
