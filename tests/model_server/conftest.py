"""Servers on free loopback ports, and an engine whose times are easy to reckon."""

from __future__ import annotations

import httpx
import openai
import pytest
import uvloop

from tools.model_server.core import Settings
from tools.model_server.server import serve

MODEL = "llama-3.1-8b-instruct"
ADAPTER = "food-review"


def pytest_asyncio_loop_factories(config, item):
    """Run these tests on the event loop that the server has in earnest: its transports are not asyncio's."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def server():
    """Run a demo server with one adapter and its admin API on a port of its own."""
    async with serve(Settings(name="mock-7", model=MODEL, adapters=(ADAPTER,)), admin_port=0) as running:
        yield running


def client(url, **options):
    """Return a plain client. Loading the authorities of TLS, which nobody needs here, would take longest."""
    return httpx.AsyncClient(base_url=url, timeout=10, verify=False, **options)


@pytest.fixture
async def http(server):
    """Return a plain client of the server."""
    async with client(server.url) as plain:
        yield plain


@pytest.fixture
async def sdk(server):
    """Return the official client, which never retries."""
    options = {"base_url": server.url + "/v1", "api_key": "unused", "max_retries": 0}
    async with openai.AsyncOpenAI(**options, http_client=client(server.url)) as official:
        yield official
