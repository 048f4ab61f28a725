"""Control headers that a client forges: where they must be removed so that they choose nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.harness import config
from tests.e2e.harness.clients import Ask, http1
from tests.e2e.harness.lab import Lab, Places, Plan, lab

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

MUTATION = f"{config.TYPE}.extensions.filters.http.header_mutation.v3.HeaderMutation"
EARLY = f"{config.TYPE}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
REMOVE = [{"remove_on_match": {"key_matcher": {"prefix": "x-gateway-"}}}]
CHOSEN = 418  # the answer of the route that only a forged header reaches


def plan(places: Places) -> Plan:
    """Return a gateway that removes early, and one that removes in a filter."""
    routes = [config.own_answer(CHOSEN, match=config.for_model("secret")), config.route("backend")]
    early = {"name": "strip", "typed_config": {"@type": EARLY, "mutations": REMOVE}}
    late = {"name": "strip", "typed_config": {"@type": MUTATION, "mutations": {"request_mutations": REMOVE}}}
    underscores = {"headers_with_underscores_action": "REJECT_REQUEST"}
    options = {"early_header_mutation_extensions": [early], "common_http_protocol_options": underscores}
    return Plan([config.listener("early", [], routes, **options), config.listener("late", [late], routes)])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with lab(tmp_path_factory.mktemp("envoy"), plan) as running:
        yield running


@pytest.mark.parametrize(("listener", "status"), [("early", 200), ("late", CHOSEN)])
async def test_only_early_removal_keeps_a_forged_header_from_the_route(running, listener, status):
    """A filter removes the header after the route was chosen from it."""
    ask = Ask("/sha1", (b"x",), headers=((config.MODEL, "secret"),))
    assert (await http1(running.envoy.ports[listener], ask)).status == status


async def test_no_control_header_of_a_client_reaches_the_backend(running):
    """Everything with the prefix goes, whatever its case; other headers stay."""
    headers = (
        ("X-Gateway-Destination-Endpoint", "127.0.0.1:9"),
        ("x-gateway-anything", "1"),
        ("x-other", "kept"),
    )
    await http1(running.envoy.ports["early"], Ask("/sha1", (b"x",), headers=headers))
    arrived = dict(running.backend.requests[-1].headers)
    assert arrived["x-other"] == "kept"
    assert not [name for name in arrived if name.startswith("x-gateway-")]


async def test_the_underscore_twin_of_a_control_header_is_refused(running):
    """`x_gateway_model_name` passes a check for the prefix, and some servers read it as the real one."""
    before = len(running.backend.requests)
    answer = await http1(
        running.envoy.ports["early"], Ask("/sha1", (b"x",), headers=(("x_gateway_model_name", "secret"),))
    )
    assert answer.status != 200
    assert len(running.backend.requests) == before
