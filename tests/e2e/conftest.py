from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.e2e.gateway.stack import Gateway, gateway_running


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Start the whole gateway once for all tests that ask for it."""
    with gateway_running(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def fresh_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Start a gateway for one module: no test before made a server slow, and the picker knows none as that."""
    with gateway_running(tmp_path_factory.mktemp("fresh")) as running:
        yield running


@pytest.fixture(scope="session")
def sdk(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """Return the official client, which must never retry here: a test wants to see each answer."""
    with openai.OpenAI(
        base_url=f"{gateway.gateway}/v1", api_key="unused", max_retries=0, timeout=30
    ) as client:
        yield client
