"""What real Envoy does with our configuration, with stand-ins for the services."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from envoy_data_plane.envoy.data.accesslog.v3 import AccessLogCommon, HttpAccessLogEntry
from envoy_data_plane.envoy.service.ext_proc import v3 as ext_proc

from tests.gateway.stubs import (
    Seen,
    access_log,
    free_book,
    free_ports,
    headers_of,
    membership,
    model_server,
    passing,
    picked,
    processor,
    routed,
    running_envoy,
    serving,
)
from tools.gateway.envoy import bootstrap
from tools.gateway.routes import Edge, Route, Routes, Share
from tools.gateway.routes import Path as ServedPath

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

LIMIT = 2 * 1024 * 1024

ROUTES = Routes(
    routes=(
        Route(base_model="one", pools=(Share(pool="a"),)),
        Route(base_model="split", pools=(Share(pool="a", weight=50), Share(pool="b", weight=50))),
        Route(base_model="prompts-only", pools=(Share(pool="b"),), check_answers=False),
    ),
    paths=(ServedPath(prefix="/v1/audio/", body_limit=2 * LIMIT), ServedPath(prefix="/v1/")),
    denied_paths=("/v1/load_lora_adapter",),
    body_limit=LIMIT,
    edge=Edge(trusted_headers=("x-gateway-inference-objective",)),
)
A, B, DEAD = free_ports(3)
BOOK = free_book()


@dataclass
class Chain:
    """The running chain as a test sees it."""

    http: httpx.AsyncClient
    bbr: Seen
    safety: Seen
    epp: Seen
    server: list[bytes]

    async def ask(self, model: str, **kwargs: object) -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json={"model": model}, **kwargs)  # type: ignore[arg-type]


def by_model(message: ext_proc.ProcessingRequest) -> ext_proc.ProcessingResponse:
    if message.request_body:
        body = message.request_body.body
        model = json.loads(body)["model"] if body.startswith(b"{") else "one"
        return routed(model, "digest-of-" + model)
    return passing(message)


def pick(message: ext_proc.ProcessingRequest) -> ext_proc.ProcessingResponse:
    assert message.request_headers
    return picked(
        f"127.0.0.1:{DEAD},127.0.0.1:{A},127.0.0.1:{B}",
        decision=headers_of(message.request_headers)["x-request-id"],
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("envoy") / "envoy.json"
    path.write_text(bootstrap.to_json(bootstrap.build(ROUTES, BOOK)))
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(config: Path) -> AsyncIterator[Chain]:
    bbr, safety, epp = Seen(), Seen(), Seen()
    pools = {"pool-a": [A, DEAD], "pool-b": [B, DEAD]}
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serving(BOOK.bbr.port, processor(bbr, by_model)))
        await stack.enter_async_context(serving(BOOK.safety.port, processor(safety, passing)))
        await stack.enter_async_context(
            serving(BOOK.epp.port, processor(epp, pick), membership(pools), access_log(epp))
        )
        heads = await stack.enter_async_context(model_server(A))
        await stack.enter_async_context(model_server(B))
        await stack.enter_async_context(running_envoy(config, BOOK.admin, members=4))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://{BOOK.gateway}"))
        yield Chain(http, bbr, safety, epp, heads)


@pytest.fixture
def chain(running: Chain) -> Chain:
    for seen in (running.bbr, running.safety, running.epp):
        seen.forget()
    return running


async def test_the_pool_reaches_the_epp_as_initial_metadata_also_through_a_split(chain):
    """A weighted cluster's override counts for the EPP although BBR chose the route."""
    answers = [await chain.ask("split") for _ in range(24)]
    told = [context["x-gateway-pool"] for context in chain.epp.contexts]
    served = [{str(A): "a", str(B): "b"}[answer.text] for answer in answers]
    assert told == served
    assert set(told) == {"a", "b"}


async def test_a_retry_takes_the_next_endpoint_of_the_list(chain):
    """The first entry of the stub's list refuses connections; the client does not notice."""
    answer = await chain.ask("one")
    assert (answer.status_code, answer.text) == (200, str(A))


async def test_control_headers_of_clients_are_removed_except_the_trusted(chain):
    """The route, the services and the server see only what the edge's configuration believes."""
    forged = {
        "x-gateway-base-model-name": "split",
        "x-gateway-model-name": "split",
        "x-gateway-destination-endpoint": f"127.0.0.1:{B}",
        "x-gateway-inference-fairness-id": "somebody",
        "x-llm-d-inference-objective": "important",
        "x-slo-ttft-ms": "1",
        "x-envoy-max-retries": "9",
        "edge-trusted-x-gateway-inference-objective": "smuggled",
        "x-prefiller-host-port": "10.0.0.1:80",
        "accept-encoding": "gzip",
    }
    await chain.ask("one", headers={**forged, "x-gateway-inference-objective": "mine"})
    for seen in (chain.bbr, chain.safety, chain.epp):
        control = {name: value for name, value in seen.requests[-1].items() if name in forged}
        expected = (
            {} if seen is chain.bbr else {"x-gateway-base-model-name": "one", "x-gateway-model-name": "one"}
        )
        assert control == expected
        assert seen.requests[-1]["x-gateway-inference-objective"] == "mine"
    assert b"x-gateway-destination-endpoint" not in chain.server[-1]


async def test_a_value_set_aside_by_the_client_itself_is_not_put_back(chain):
    """The names that the edge uses inside carry no trust of their own."""
    await chain.ask("one", headers={"edge-trusted-x-gateway-inference-objective": "smuggled"})
    assert not {name for name in chain.bbr.requests[-1] if "objective" in name}


async def test_a_body_over_the_limit_is_413_in_the_apis_words(chain):
    """The limit of the path counts, on HTTP/1.1 and HTTP/2 alike, and the error is one an SDK can show."""
    over, content = "x" * (LIMIT + 1), {"content-type": "application/json"}
    answer = await chain.http.post("/v1/chat/completions", content=over, headers=content)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == "request_too_large"
    assert (await chain.http.post("/v1/audio/transcriptions", content=over)).status_code == 200
    async with httpx.AsyncClient(base_url=chain.http.base_url, http1=False, http2=True) as http2:
        assert (await http2.post("/v1/chat/completions", content=over)).status_code == 413
        assert (await http2.post("/v1/chat/completions", content="x" * (LIMIT - 1))).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/v1/load_lora_adapter", "/v1/%2e%2e/metrics", "/v2/anything"])
async def test_other_paths_are_404_and_no_service_sees_them(chain, path):
    """A server's metrics and administration are not behind the gateway."""
    answer = await chain.http.post(path, json={"model": "one"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert chain.bbr.requests == chain.safety.requests == chain.epp.requests == []


async def test_answers_skip_bbr_and_the_epp_and_pass_safety_where_the_route_says_so(chain):
    """A model whose policy looks at prompts only pays nothing for its answers."""
    await chain.ask("one")
    assert (chain.bbr.responses, chain.safety.responses, chain.epp.responses) == (0, 1, 0)
    assert (await chain.ask("prompts-only")).text == str(B)
    assert (chain.safety.responses, len(chain.safety.requests)) == (1, 2)


async def test_a_model_without_a_route_reaches_no_server(chain):
    """What BBR sets and no route knows ends at the empty cluster, unseen by safety and EPP."""
    answer = await chain.ask("unheard-of")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert chain.safety.requests == chain.epp.requests == []


async def test_the_access_log_brings_the_decision_back_with_its_outcome(chain):
    """The EPP learns which endpoint served in the end, under the id that it gave the decision."""
    await chain.ask("one")
    decision = chain.epp.requests[-1]["x-request-id"]
    async with asyncio.timeout(10):
        while (outcome := logged_under(decision, chain.epp.logs)) is None:
            chain.epp.logged.clear()
            await chain.epp.logged.wait()
    assert outcome.upstream_remote_address.socket_address.port_value == A  # type: ignore[union-attr]
    assert outcome.upstream_request_attempt_count == 2


def logged_under(decision: str, logs: list[HttpAccessLogEntry]) -> AccessLogCommon | None:
    for entry in logs:
        common = entry.common_properties
        assert common is not None
        assert common.metadata is not None
        if common.metadata.filter_metadata["gw.epp"].to_dict() == {"decision": decision}:
            return common
    return None


async def test_a_request_without_a_decision_is_not_logged_to_the_epp(chain):
    """BBR's refusals and paths that are not served tell the EPP nothing."""
    await chain.ask("unheard-of")
    await chain.ask("one")
    decision = chain.epp.requests[-1]["x-request-id"]
    async with asyncio.timeout(10):
        while logged_under(decision, chain.epp.logs) is None:
            chain.epp.logged.clear()
            await chain.epp.logged.wait()
    assert all(entry.common_properties.route_name != "unrouted" for entry in chain.epp.logs)


async def test_underscore_twins_are_dropped(chain):
    """Some servers read an underscore as a dash; nobody behind the edge gets to see one."""
    assert (await chain.ask("one", headers={"x_gateway_model_name": "split"})).text == str(A)
    assert "x_gateway_model_name" not in chain.bbr.requests[-1]
    assert b"x_gateway" not in chain.server[-1]
