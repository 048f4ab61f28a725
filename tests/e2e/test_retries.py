"""Retries and the endpoint list: what reaches the backends when a request is tried again."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.harness import config
from tests.e2e.harness.clients import Ask, http1, http2
from tests.e2e.harness.lab import Lab, Places, Plan, chain, lab, together
from tests.e2e.harness.scripted import Script, Style, pick

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

RETRY = {
    "retry_policy": {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
    }
}
BODY = bytes(range(256)) * 160  # 40 KB: within the first HTTP/2 window
PACED = (BODY[:10_000], 0.02, BODY[10_000:])
"""STREAMED needs more than one piece to go wrong, full-duplex always does."""
UNKNOWN = 1  # a port that no cluster holds


def plan(places: Places) -> Plan:
    """Return a chain per body mode for trailers, and one per endpoint list that an EPP may name."""
    plans = [
        chain(f"trailers.{style}", [Script(request=style)], [config.route("backend", **RETRY)])[0]
        for style in (Style.BUFFERED, Style.ECHO, Style.STREAMED)
    ]
    lists = {
        "dead-first": places.list(places.dead, places.backend),
        "unknown-first": places.list(UNKNOWN, places.backend),
        "unknown": places.list(UNKNOWN),
        "dead": places.list(places.dead),
        "spaces": f"127.0.0.1:{places.dead}, 127.0.0.1:{places.backend}",
    }
    for name, endpoints in lists.items():
        scripts = [Script(request=Style.BUFFERED), Script(metadata=pick(endpoints))]
        plans.append(chain(name, scripts, [config.route("pool", **RETRY)])[0])
    single = [Script(metadata=pick(lists["dead-first"]))]
    plans.append(chain("no-retry", single, [config.route("pool")])[0])
    plans.append(chain("no-pick", [Script()], [config.route("pool", **RETRY)])[0])
    plans.append(
        chain("open", [Script(metadata=pick(lists["unknown"]))], [config.route("pool-open", **RETRY)])[0]
    )
    hosts = [places.dead, places.backend]
    pools = [
        config.cluster("pool", hosts, balancing=config.override_host()),
        config.cluster("pool-open", [places.backend], balancing=config.override_host(strict=False)),
    ]
    return together(*plans, Plan([], {}, pools))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with lab(tmp_path_factory.mktemp("envoy"), plan) as running:
        yield running


async def upstream(running: Lab, listener: str, ask: Ask, send=http1) -> tuple[int, list[bytes]]:
    """Send `ask` and return the status with the bodies that reached the backend because of it."""
    before = len(running.backend.requests)
    answer = await send(running.envoy.ports[listener], ask)
    return answer.status, [request.body for request in running.backend.requests[before:]]


@pytest.mark.parametrize(
    ("style", "intact"), [(Style.BUFFERED, True), (Style.ECHO, False), (Style.STREAMED, False)]
)
async def test_trailers_and_a_retry_policy_double_a_streamed_body(running, style, intact):
    """BUFFERED brings the body once; full-duplex and STREAMED bring more than was sent, with status 200."""
    ask = Ask("/sha1", PACED, trailers=(("x-checksum", "1"),))
    status, bodies = await upstream(running, f"trailers.{style}", ask, http2)
    assert status == 200
    assert len(bodies) == 1
    assert (bodies[0] == BODY) is intact
    assert len(bodies[0]) >= len(BODY)


@pytest.mark.parametrize("style", [Style.BUFFERED, Style.ECHO, Style.STREAMED])
async def test_without_trailers_every_mode_brings_the_body_once(running, style):
    """The retry policy alone does no harm."""
    assert await upstream(running, f"trailers.{style}", Ask("/sha1", (BODY,)), http2) == (200, [BODY])


@pytest.mark.parametrize("listener", ["dead-first", "unknown-first", "spaces"])
async def test_the_next_endpoint_of_the_list_gets_the_whole_request(running, listener):
    """A host that refuses, or that the cluster does not hold, passes the request on; the services are asked once."""
    body = hashlib.sha256(b"seed").digest() * 10_000  # 320 KB
    asked = len(running.scripted.of(f"{listener}.2"))
    assert await upstream(running, listener, Ask("/sha1", (body,))) == (200, [body])
    assert len(running.scripted.of(f"{listener}.2")) == asked + 1


@pytest.mark.parametrize(
    ("listener", "flag"), [("unknown", "UH"), ("dead", "UF"), ("no-pick", "UH"), ("no-retry", "UF")]
)
async def test_no_usable_endpoint_is_a_503(running, listener, flag):
    """A strict fallback never picks a host by itself, and a list without a retry policy has one entry."""
    assert await upstream(running, listener, Ask("/sha1", (b"x",))) == (503, [])


async def test_an_open_fallback_picks_any_host(running):
    """With round robin as the fallback an unknown endpoint still gets an answer."""
    assert await upstream(running, "open", Ask("/sha1", (b"x",))) == (200, [b"x"])
