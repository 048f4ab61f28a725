"""Answers that Envoy or a service makes before any backend: body limits, refusals, and who hears of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import envoy_data_plane.envoy.service.ext_proc.v3 as api
import pytest
import pytest_asyncio

from tests.e2e.harness import config
from tests.e2e.harness.clients import Ask, http1, http2
from tests.e2e.harness.lab import Lab, Places, Plan, chain, lab, together
from tests.e2e.harness.scripted import Script, Style

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

LIMIT = 2 * 1024 * 1024
BBR = Script(request=Style.BUFFERED, set_headers={config.MODEL: "llama"}, reroute=True)
WINDOW = {"initial_stream_window_size": 65_536, "initial_connection_window_size": 1_048_576}


def plan(places: Places) -> Plan:
    """Return gateways with limits in several places, and chains in which somebody refuses."""
    model = config.route("backend", match=config.for_model("llama"), request_body_buffer_limit=LIMIT)
    limited = config.route("backend", request_body_buffer_limit=LIMIT)
    own = config.own_answer(404, request_body_buffer_limit=LIMIT)
    h2 = {"http2_protocol_options": WINDOW}
    refused = [Script(refuse=404), Script(response=Style.ECHO), Script(response=Style.HEADERS)]
    off = config.disabled("refused-off.2", "refused-off.3")
    return together(
        chain("forward", [BBR], [model, limited], **h2)[0],
        chain("direct", [BBR], [model, own])[0],
        chain("no-limit", [BBR], [config.route("backend")], **h2)[0],
        chain("refused", refused, [config.route("backend")])[0],
        chain("refused-off", refused, [config.route("backend", per_filter=off)])[0],
        chain("unreachable", [Script(response=Style.ECHO)], [config.route("dead")])[0],
        Plan([], {}, [config.cluster("dead", [places.dead])]),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with lab(tmp_path_factory.mktemp("envoy"), plan) as running:
        yield running


@pytest.mark.parametrize(
    ("listener", "size", "status"),
    [
        ("forward", 1_500_000, 200),
        ("forward", LIMIT, 200),
        ("forward", LIMIT + 1, 413),
        ("direct", 1_000_000, 200),
        # A route that Envoy answers itself has no limit of its own: the connection's 1 MiB holds.
        ("direct", 1_500_000, 413),
    ],
)
async def test_the_limit_is_that_of_the_route_before_bbr(running, listener, size, status):
    """The route that a request has when BBR reads it says how much of it is buffered, if it is a forward route."""
    answer = await http1(running.envoy.ports[listener], Ask("/sha1", (b"x" * size,)))
    assert answer.status == status


@pytest.mark.parametrize(("listener", "status"), [("forward", 200), ("no-limit", 413)])
async def test_an_http2_body_over_the_window_needs_a_limit(running, listener, status):
    """Without `request_body_buffer_limit` the stream's window of 64 KiB is the limit."""
    answer = await http2(running.envoy.ports[listener], Ask("/sha1", (b"x" * 200_000,)))
    assert answer.status == status


def heard(running: Lab, name: str) -> list[list[str]]:
    """Return the kinds of the messages in each stream of the filter `name`."""
    kinds = ("request_headers", "request_body", "response_headers", "response_body", "response_trailers")
    return [
        [
            kind
            for raw in stream.messages
            for kind in kinds
            if getattr(api.ProcessingRequest.parse(raw), kind) is not None
        ]
        for stream in running.scripted.of(name)
    ]


async def test_a_refusal_passes_the_response_side_of_the_other_services(running):
    """Services that never saw the request get a stream whose first message is the head of the answer."""
    answer = await http1(running.envoy.ports["refused"], Ask("/sha1", (b"x",)))
    assert (answer.status, answer.body) == (404, b'{"error": {"message": "refused"}}')
    assert heard(running, "refused.2") == [["response_headers", "response_body"]]
    assert heard(running, "refused.3") == [["response_headers"]]


async def test_services_that_the_route_disables_hear_nothing_of_a_refusal(running):
    """Which is why they are off on the route before BBR."""
    answer = await http1(running.envoy.ports["refused-off"], Ask("/sha1", (b"x",)))
    assert (answer.status, answer.body) == (404, b'{"error": {"message": "refused"}}')
    assert heard(running, "refused-off.1") == [["request_headers"]]
    assert heard(running, "refused-off.2") == heard(running, "refused-off.3") == []


async def test_envoys_own_503_passes_the_response_side_too(running):
    """The service that let the request go sees an answer that no model server gave."""
    answer = await http1(running.envoy.ports["unreachable"], Ask("/sha1", (b"x",)))
    assert answer.status == 503
    assert heard(running, "unreachable.1") == [["request_headers", "response_headers", "response_body"]]
