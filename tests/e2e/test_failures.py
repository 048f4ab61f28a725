"""Services that are gone, abort, hang or end too early: what the client and the backend then see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.e2e.harness import config
from tests.e2e.harness.clients import Ask, http1
from tests.e2e.harness.lab import Lab, Places, Plan, lab
from tests.e2e.harness.scripted import Fault, Script, Style

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

BODY = b"a" * 1_000 + b"b" * 2_000


@dataclass(frozen=True, slots=True)
class Case:
    """A failing service and what comes of it."""

    promise: str
    style: Style
    fault: Fault | None
    """None: nobody listens."""
    opens: bool
    status: int
    upstream: tuple[bytes, ...] = ()


CASES = [
    Case("gone, closed: refused with the declared status", Style.BUFFERED, None, opens=False, status=503),
    Case("gone, open: goes on whole", Style.BUFFERED, None, opens=True, status=200, upstream=(BODY,)),
    Case(
        "headers only, gone, open: goes on whole",
        Style.HEADERS,
        None,
        opens=True,
        status=200,
        upstream=(BODY,),
    ),
    Case("aborts, closed: refused", Style.BUFFERED, Fault.ABORT, opens=False, status=503),
    Case(
        "aborts, open: goes on whole", Style.BUFFERED, Fault.ABORT, opens=True, status=200, upstream=(BODY,)
    ),
    Case("hangs, closed: 504 after the message timeout", Style.BUFFERED, Fault.HANG, opens=False, status=504),
    Case("hangs, open: goes on whole", Style.BUFFERED, Fault.HANG, opens=True, status=200, upstream=(BODY,)),
    Case("ends early: goes on whole", Style.BUFFERED, Fault.CLOSE, opens=False, status=200, upstream=(BODY,)),
    # Why our own requests are not full-duplex:
    Case("full-duplex cannot fail open after a chunk", Style.ECHO, Fault.ABORT, opens=True, status=503),
    Case(
        "full-duplex: ends early and loses what was read",
        Style.ECHO,
        Fault.CLOSE_ON_BODY,
        opens=False,
        status=200,
        upstream=(BODY[1000:],),
    ),
]


BACK_OFFS: dict[str, dict[str, object]] = {
    "default": {},
    "short": {"retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"}},
}
HANGING = Case("", Style.ECHO, Fault.HANG, opens=False, status=504)


def plan(places: Places) -> Plan:
    """Return one listener per case."""
    listeners, scripts = [], {}
    for name, case in [*((case.promise, case) for case in CASES), ("hang", HANGING)]:
        scripts[name] = Script(request=case.style, fault=case.fault)
        service = config.ext_proc(
            name,
            scripts[name].mode,
            cluster="ext" if case.fault else "gone",
            failure_mode_allow=case.opens,
            status_on_error={"code": "ServiceUnavailable"},
            message_timeout="0.2s",
        )
        listeners.append(
            config.listener(name, [service], [config.route("backend")], stream_idle_timeout="0.6s")
        )
    for name, back_off in BACK_OFFS.items():
        retry = {"retry_on": "connect-failure,refused-stream", "num_retries": 2, **back_off}
        service = config.ext_proc(
            name,
            Script().mode,
            cluster="gone",
            retry=retry,
            message_timeout="0.2s",
            status_on_error={"code": "ServiceUnavailable"},
        )
        listeners.append(config.listener(name, [service], [config.route("backend")]))
    return Plan(listeners, scripts, [config.cluster("gone", [places.dead], http2=True)])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with lab(tmp_path_factory.mktemp("envoy"), plan) as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.promise)
async def test_a_failing_service(running, case):
    """What the case's name promises: the client's status and the bodies that reach the backend."""
    before = len(running.backend.requests)
    # In two pieces, so that full-duplex has read one when the server fails.
    answer = await http1(running.envoy.ports[case.promise], Ask("/sha1", (BODY[:1000], 0.02, BODY[1000:])))
    assert answer.status == case.status
    assert tuple(request.body for request in running.backend.requests[before:]) == case.upstream


async def test_only_the_idle_timeout_ends_a_hanging_full_duplex_service(running):
    """The message timeout, three times shorter here, does not count in this mode."""
    answer = await http1(running.envoy.ports["hang"], Ask("/sha1", (BODY,)))
    assert (answer.status, answer.body) == (504, b"stream timeout")


@pytest.mark.parametrize(("back_off", "status"), [("default", 504), ("short", 503)])
async def test_retries_of_the_call_itself_need_a_short_back_off(running, back_off, status):
    """Envoy's default for gRPC services is up to a second before the first retry and three before the second.

    A request would wait for that, and end in the timeout's 504, although the refusal was known at once.
    """
    assert (await http1(running.envoy.ports[back_off], Ask("/sha1", (BODY,)))).status == status
