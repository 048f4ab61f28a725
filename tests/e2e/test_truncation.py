"""Two ext_proc filters in a row: which pairs lose the body on Envoy 1.40, and that the modes of our gateway do not.

The timing that shows it: the second half of a body comes 20 ms after the first, the second filter answers the headers
at 40 ms, the first filter answers the body at 80 ms. When another Envoy fails other pairs, change the expectations
here and think again about the order and modes of the gateway's filters.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.e2e.harness import config
from tests.e2e.harness.backend import EVENTS, HALVES
from tests.e2e.harness.clients import Ask, http1
from tests.e2e.harness.lab import Lab, Places, Plan, chain, lab, together
from tests.e2e.harness.scripted import Script, Style

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

STYLES = [Style.HEADERS, Style.ECHO, Style.FIRST, Style.HOLD, Style.STREAMED, Style.BUFFERED]
PAIRS = list(itertools.product(STYLES, STYLES))
TRUNCATED = {(first, Style.HEADERS) for first in (Style.ECHO, Style.FIRST, Style.STREAMED)}
"""A filter that lets the headers go while it still owes body, then one that pauses them and does not read the body."""

UPLOAD = (b"a" * 250, 0.02, b"b" * 250)
ARRIVED = hashlib.sha1(b"a" * 250 + b"b" * 250).hexdigest().encode() + b":500"
CASES = {
    "request": ("request", Ask("/sha1", UPLOAD), ARRIVED),
    "response of known length": ("response", Ask("/halves", method="GET"), HALVES),
    "server-sent events": ("response", Ask("/events", method="GET"), b"".join(EVENTS)),
}

OURS = {
    "response to safety": (Style.SKIP, Style.HOLD, Style.SKIP),
    "response to safety, head to the EPP": (Style.SKIP, Style.ECHO, Style.HEADERS),
    "response to safety and the EPP": (Style.SKIP, Style.ECHO, Style.ECHO),
}
"""Response styles of three filters whose requests are BUFFERED, as in our gateway and its variants."""
RETRIES = {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 2}


def plan(places: Places) -> Plan:
    """Return a listener per pair and direction, and one for each of our own chains."""
    plans = []
    for (first, following), side in itertools.product(PAIRS, ("request", "response")):
        scripts = [
            on_side(side, first, Script(body_delay=0.08)),
            on_side(side, following, Script(header_delay=0.04)),
        ]
        if side == "response":  # responses pass the filters from the last to the first
            scripts.reverse()
        plans.append(chain(f"{side}.{first}.{following}", scripts, [config.route("backend")])[0])
    for name, styles in OURS.items():
        delays = [(0.001, 0.009), (0.006, 0.004), (0.003, 0.0)]
        scripts = [
            Script(request=Style.BUFFERED, response=style, header_delay=header, body_delay=body)
            for style, (header, body) in zip(styles, delays, strict=True)
        ]
        plans.append(chain(name, scripts, [config.route("backend", retry_policy=RETRIES)])[0])
    return together(*plans)


def on_side(side: str, style: Style, script: Script) -> Script:
    """Return `script` with `style` on one side and nothing on the other."""
    styles = {"request": Style.SKIP, "response": Style.SKIP, side: style}
    return replace(script, request=styles["request"], response=styles["response"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with lab(tmp_path_factory.mktemp("envoy"), plan) as running:
        yield running


@pytest.mark.parametrize("case", CASES)
async def test_exactly_these_pairs_lose_the_body(running, case):
    """Status 200 and a proper end, but nothing in between: the client cannot know."""
    side, ask, whole = CASES[case]
    slots = asyncio.Semaphore(6)  # more at a time would blur the timing on a small machine

    async def truncates(first: Style, following: Style) -> bool:
        # The loss is a race: a pair that loses may need another try on a busy machine; one that does not, never.
        for _ in range(4 if (first, following) in TRUNCATED else 1):
            async with slots, asyncio.timeout(20):
                answer = await http1(running.envoy.ports[f"{side}.{first}.{following}"], ask)
            assert answer.status == 200
            if (answer.body, answer.complete) != (whole, True):
                return True
        return False

    lost = await asyncio.gather(*(truncates(*pair) for pair in PAIRS))
    assert {pair for pair, bad in zip(PAIRS, lost, strict=True) if bad} == TRUNCATED


@pytest.mark.parametrize("name", OURS)
async def test_our_modes_lose_nothing(running, name):
    """Requests BUFFERED and responses full-duplex: every byte both ways, each request sent upstream once."""
    rng = random.Random(name)
    slots = asyncio.Semaphore(4)

    async def damage(number: int) -> str:
        body = rng.randbytes(rng.choice([20, 3_000, 65_536, 200_000, 700_000]))
        path = f"/echo/{name}-{number}".replace(" ", "-")
        ask = Ask(path, tuple(cut(body, rng)), chunked=rng.random() < 0.5)
        async with slots, asyncio.timeout(30):
            answer = await http1(running.envoy.ports[name], ask)
        upstream = [request.body for request in running.backend.requests if request.target == path]
        if (answer.status, answer.body, answer.complete, upstream) == (200, body, True, [body]):
            return ""
        sizes = [len(each) for each in upstream]
        return f"{len(body)} bytes: {answer.status}, {len(answer.body)} back, {sizes} upstream"

    found = await asyncio.gather(*(damage(number) for number in range(25)))
    assert not list(filter(None, found))


def cut(body: bytes, rng: random.Random) -> list[bytes | float]:
    """Return `body` in pieces of random size with short pauses between some."""
    pieces: list[bytes | float] = []
    while body:
        size = rng.choice([7, 5_000, 62_000, 250_000])
        pieces.append(body[:size])
        if rng.random() < 0.4:
            pieces.append(rng.choice([0.001, 0.01]))
        body = body[size:]
    return pieces
