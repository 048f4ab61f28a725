"""The ext_proc side: what goes in and out by headers and metadata."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.epp.assemble import make_scheduler
from services.epp.config import EndpointPickerConfig
from services.epp.director import Director
from services.epp.endpoints import Endpoint
from services.epp.flow.control import FlowControl
from services.epp.flow.settings import Settings
from services.epp.pool import Pool
from services.epp.records import Release, Silent
from services.epp.scheduling.saturation import Concurrency
from services.epp.service import EndpointPicker, PickExchange
from services.extproc.config import parse
from services.extproc.decisions import Forward, Stream, Wait
from services.extproc.errors import BadRequest, Overloaded, Unavailable
from services.extproc.events import End, Headers, Metadata, Outcome, Request, ResponseChunk, ResponseHead
from services.extproc.messages import Message, Mode, Modes, Part, Side
from services.extproc.script import Script
from services.extproc.session import Session
from services.openai.digest import encode
from tests.epp.world import Clock, address, digest, director_of, pool_of, text

CHAT = (":method", "POST"), (":path", "/v1/chat/completions"), ("content-type", "application/json")
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": text(2000, 1).decode()}]}).encode()
ATTACHED = {"gw.bbr": {"digest": encode(digest(text(2000, 1), model="m"))}}


@pytest.fixture
def pool() -> Pool:
    return pool_of(3, Clock())


@pytest.fixture
def director(pool: Pool) -> Director:
    return director_of(pool, clock=Clock())


def request(*headers: tuple[str, str], body: bytes | None = None, **more: Any) -> Request:
    return Request(Headers((*CHAT, *headers)), body, **more)


def open_(director: Director, **context: str) -> PickExchange:
    return EndpointPicker(director).open({key.replace("_", "-"): value for key, value in context.items()})


async def picked(director: Director, asked: Request, **context: str) -> Forward:
    decision = await open_(director, **context).request(asked)
    assert isinstance(decision, Forward)
    return decision


def in_flight(pool: Pool) -> int:
    return sum(load.requests for load in pool.inflight.loads)


async def test_header_and_metadata_name_the_same_servers(director, pool):
    """Endpoint picker protocol 1.0; the access log brings pool and decision back."""
    forward = await picked(director, request(metadata=ATTACHED))

    destination = forward.metadata["envoy.lb"]["x-gateway-destination-endpoint"]
    assert forward.set_headers == (("x-gateway-destination-endpoint", destination),)
    assert sorted(str(destination).split(",")) == [address(0), address(1), address(2)]
    assert forward.metadata["gw.epp"]["pool"] == "llama"
    assert pool.inflight.get(str(forward.metadata["gw.epp"]["decision"])) is not None
    assert not forward.reroute
    assert forward.body is None


async def test_a_digest_that_came_as_metadata_is_taken_out_of_the_access_log(director):
    """Otherwise kilobytes would come back with every entry; nothing is said when there was none."""
    assert (await picked(director, request(metadata=ATTACHED))).metadata["gw.bbr"] == {"digest": ""}
    assert "gw.bbr" not in (await picked(director, request(body=BODY))).metadata


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request(metadata=ATTACHED), True),
        (request(), False),
        (request(body=b""), True),
        (request(metadata={"gw.bbr": {"digest": "nonsense"}}), False),
        (request(metadata={"gw.bbr": {"digest": ""}}), False),
        (request(metadata={"gw.bbr": {"digest": 7.0}}), False),
    ],
)
def test_the_body_is_waited_for_only_without_a_digest(director, asked, expected):
    """A digest of an unknown scheme counts as none."""
    assert open_(director).decides_on_headers(asked) is expected


@pytest.mark.parametrize("first", [{"body": BODY}, {"metadata": ATTACHED}])
async def test_the_same_prompt_finds_its_server_again(director, first):
    """However the digest comes."""
    asked = request(**first)
    one = await picked(director, asked)
    director.release("llama", str(one.metadata["gw.epp"]["decision"]), Release.ACCESS_LOG)
    two = await picked(director, asked)

    assert one.set_headers[0][1].split(",")[0] == two.set_headers[0][1].split(",")[0]


async def test_a_body_that_is_no_request_is_400_in_the_clients_dialect(director):
    """The error names the field."""
    asked = request(body=b'{"messages": []}')
    with pytest.raises(BadRequest) as refusal:
        await picked(director, asked)
    answer = EndpointPicker(director).refuse(refusal.value, asked)

    assert answer.status == 400
    assert json.loads(answer.body)["error"]["param"] == "model"
    assert answer.headers == (("content-type", "application/json"),)
    assert answer.details == "epp_field_missing"


@pytest.mark.parametrize(
    "asked",
    [
        Request(Headers(((":method", "GET"), (":path", "/v1/models"))), b""),
        Request(Headers(((":method", "POST"), (":path", "/custom"))), b"anything"),
        request(("x-gateway-model-name", "m")),
        request(body=b""),
    ],
)
async def test_without_a_readable_body_any_eligible_server_is_picked(director, asked):
    """GETs, unknown paths, and filters that hide the body."""
    assert (await picked(director, asked)).set_headers


async def test_the_models_header_speaks_for_a_body_that_is_not_seen(director, pool):
    """The router in front knows the model."""
    await picked(director, request(("x-gateway-model-name", "m"), ("x-gateway-base-model-name", "b")))

    assert in_flight(pool) == 1


@pytest.mark.parametrize(
    ("context", "attributes", "expected"),
    [
        ({"x_gateway_pool": "b"}, {}, "b"),
        ({}, {"xds.cluster_name": "pool-b"}, "b"),
        ({}, {"xds.cluster_name": "b"}, "b"),
        ({"x_gateway_pool": "a"}, {"xds.cluster_name": "pool-b"}, "a"),
    ],
)
async def test_the_pool_comes_from_the_route_or_else_from_the_cluster(context, attributes, expected):
    """Initial metadata first, then the attribute without its prefix."""
    clock = Clock()
    director = director_of(pool_of(1, clock, name="a"), pool_of(1, clock, name="b"), clock=clock)
    forward = await picked(director, request(metadata=ATTACHED, attributes=attributes), **context)

    assert forward.metadata["gw.epp"]["pool"] == expected


@pytest.mark.parametrize("hint", [[address(1)], address(1)])
async def test_the_subset_hint_is_obeyed(director, hint):
    """As a list and as a string."""
    metadata = {**ATTACHED, "envoy.lb.subset_hint": {"x-gateway-destination-endpoint-subset": hint}}
    forward = await picked(director, request(metadata=metadata))

    assert forward.set_headers[0][1] == address(1)


async def test_an_empty_subset_is_503(director):
    """The proxy allows nobody."""
    metadata: Metadata = {"envoy.lb.subset_hint": {"x-gateway-destination-endpoint-subset": []}}
    with pytest.raises(Unavailable):
        await picked(director, request(body=b"", metadata=metadata))


@pytest.mark.parametrize("name", ["x-gateway-inference-objective", "x-llm-d-inference-objective"])
async def test_the_objective_header_has_an_alias(name):
    """Both spellings of the reference; a sheddable one is refused when nobody has room."""
    clock = Clock()
    pool = pool_of(1, clock)
    full = pool.snapshot.servers[0].metrics.__class__(waiting=9, scraped_at=clock())
    pool.observe(address(0), full)
    director = director_of(pool, clock=clock, objectives={"batch": -1})
    asked = request((name, "batch"), metadata=ATTACHED)
    with pytest.raises(Overloaded) as refusal:
        await picked(director, asked)
    answer = EndpointPicker(director).refuse(refusal.value, asked)

    assert answer.status == 429
    assert dict(answer.headers)["retry-after"] == "3", "four of nine are too many and one more; nine take 4 s"
    assert dict(answer.headers)["x-llm-d-request-dropped-reason"] == "rejected-saturated"


def test_a_refusal_without_a_request_is_still_json(director):
    """Nothing is known of the dialect."""
    answer = EndpointPicker(director).refuse(Unavailable("no"), None)

    assert json.loads(answer.body)["error"]["message"] == "no"


# The end of a request.


async def test_a_stream_that_ends_after_the_pick_leaves_the_end_to_the_access_log(director, pool):
    """Headers only, answers skipped: our own Envoy."""
    exchange = open_(director)
    await exchange.request(request(metadata=ATTACHED))
    exchange.end(End(Outcome.FORWARDED))

    assert in_flight(pool) == 1


@pytest.mark.parametrize("outcome", [Outcome.ABANDONED, Outcome.FAILED, Outcome.REJECTED])
async def test_a_stream_that_breaks_off_releases(director, pool, outcome):
    """The client left, or something failed: nothing more will be heard here."""
    exchange = open_(director)
    await exchange.request(request(metadata=ATTACHED))
    exchange.end(End(outcome))

    assert in_flight(pool) == 0


async def test_a_stream_that_followed_the_answer_releases_where_it_was_served(director, pool):
    """The response phase, where a gateway has one."""
    exchange = open_(director)
    forward = await exchange.request(request(metadata=ATTACHED))
    assert isinstance(forward, Forward)
    second = str(forward.metadata["envoy.lb"]["x-gateway-destination-endpoint"]).split(",")[1]
    feedback = {"envoy.lb": {"x-gateway-destination-endpoint-served": second}}
    head = ResponseHead(200, Headers(), metadata=feedback, body_seen=True)
    assert await exchange.response_head(head) == Stream()
    server = pool.get(second)
    assert server is not None
    assert pool.inflight.loads[server.slot].requests == 1

    exchange.end(End(Outcome.FORWARDED))
    assert in_flight(pool) == 0


@pytest.mark.parametrize("mode", [Mode.STREAMED, Mode.BUFFERED, Mode.FULL_DUPLEX_STREAMED])
@pytest.mark.parametrize("whole", [True, False])
async def test_the_load_counts_until_the_last_byte_in_every_response_mode(director, pool, mode, whole):
    """Through the real session; an answer that is cut short releases too."""
    session = Session(body_limit=10**6, decides_on_headers=(exchange := open_(director)).decides_on_headers)
    asked = Message(Side.REQUEST, headers=Headers(CHAT), metadata=ATTACHED, modes=Modes(Mode.NONE, mode))
    question = session.receive(asked).ask
    assert isinstance(question, Request)
    session.answer(await exchange.request(question))
    question = session.receive(Message(Side.RESPONSE, headers=Headers([(":status", "200")]))).ask
    assert isinstance(question, ResponseHead)
    session.answer(await exchange.response_head(question))

    async def chunk(data: bytes, *, end: bool = False) -> None:
        asked = session.receive(Message(Side.RESPONSE, Part.BODY, data=data, end=end)).ask
        assert isinstance(asked, ResponseChunk)
        session.answer(await exchange.response_chunk(asked))

    if mode is not Mode.BUFFERED:
        await chunk(b"a")
    assert in_flight(pool) == 1
    if whole:
        await chunk(b"b", end=True)
    exchange.end(End(session.outcome()))

    assert session.outcome() is (Outcome.FORWARDED if whole else Outcome.ABANDONED)
    assert in_flight(pool) == 0


async def test_an_answer_to_a_request_that_was_never_seen_passes(director):
    """Envoy's own replies run through the response side too."""
    exchange = open_(director)

    assert await exchange.response_head(ResponseHead(413, Headers(), request_seen=False)) == Forward()
    exchange.end(End(Outcome.FORWARDED))


def scheduled(pool: Pool, text: str) -> Director:
    """Decide by a configuration's plugins and profiles."""
    head = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
    return director_of(
        pool, clock=Clock(), scheduler=make_scheduler(parse(head + text, EndpointPickerConfig))
    )


DISAGGREGATED = """
plugins:
- type: always-disagg-pd-decider
- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}
- type: decode-filter
- type: prefill-filter
schedulingProfiles:
- {name: decode, plugins: [{pluginRef: decode-filter}]}
- {name: prefill, plugins: [{pluginRef: prefill-filter}]}
"""


async def test_prefill_and_decode_go_to_servers_of_their_own():
    """The header names the prefilling server; the prompt is its load, the answer the other one's, until the end."""
    pool = pool_of(2, Clock())
    roles = ("decode", "prefill")
    pool.set_members(Endpoint(address(slot), {"llm-d.ai/role": role}) for slot, role in enumerate(roles))
    director = scheduled(pool, DISAGGREGATED)
    forward = await picked(director, request(metadata=ATTACHED))

    assert forward.set_headers == (
        ("x-gateway-destination-endpoint", address(0)),
        ("x-prefiller-host-port", address(1)),
    )
    decode, prefill = pool.inflight.loads
    assert (decode.requests, decode.prompt_tokens, prefill.requests, prefill.output_tokens) == (1, 0, 1, 0)
    assert prefill.prompt_tokens == 500
    assert decode.output_tokens > 0

    assert director.release("llama", str(forward.metadata["gw.epp"]["decision"]), Release.ACCESS_LOG)
    assert in_flight(pool) == 0


async def test_a_session_token_goes_out_with_the_answer_and_brings_the_next_request_back(pool):
    """Where the answer's head passes here."""
    director = scheduled(pool, "plugins: [{type: session-affinity-scorer}]")
    exchange = open_(director)
    first = await exchange.request(request(metadata=ATTACHED))
    answer = await exchange.response_head(ResponseHead(200, Headers(), body_seen=False))

    assert isinstance(first, Forward)
    assert isinstance(answer, Forward)
    ((name, token),) = answer.set_headers
    assert name == "x-session-token"
    second = await picked(director, request((name, token), metadata=ATTACHED))
    assert second.set_headers[0][1].split(",")[0] == first.set_headers[0][1].split(",")[0]


@pytest.mark.parametrize(
    ("context", "metadata", "cluster", "expected"),
    [
        ({"x_gateway_pool": "a"}, "b", "pool-b", "a"),
        ({}, "a", "pool-b", "a"),
        ({}, "", "pool-a", "a"),
        ({}, "", "", "b"),
    ],
)
async def test_the_pool_is_told_in_several_ways(context, metadata, cluster, expected):
    """The stream's own metadata, the request's, the route's cluster, and at last the default pool."""
    clock = Clock()
    director = director_of(*(pool_of(1, clock, name=name) for name in "ab"), clock=clock, default_pool="b")
    asked = request(
        metadata=ATTACHED | ({"gw.epp": {"pool": metadata}} if metadata else {}),
        attributes={"xds.cluster_name": cluster} if cluster else {},
    )

    assert (await picked(director, asked, **context)).metadata["gw.epp"]["pool"] == expected


async def test_a_request_that_waits_asks_the_proxy_for_more_time():
    """Through the real session: more time first, the pick when there is room; leaving gives the place up."""
    clock = Clock()
    pool = pool_of(1, clock)
    director = director_of(pool, clock=clock, detector=Concurrency(max_concurrency=1), sheds=False)
    flow = FlowControl(director, Settings(ttl=5.0), now=clock, observer=Silent())
    service = EndpointPicker(director, flow)
    first = Script(service, request_body="NONE")
    assert (await first.request(metadata=ATTACHED)).more_time is None

    exchange = service.open({})
    decision = await exchange.request(request(metadata=ATTACHED))
    assert decision == Wait(5.5)
    leaving = service.open({})
    await leaving.request(request(metadata=ATTACHED))
    leaving.end(End(Outcome.ABANDONED))
    director.release("llama", next(iter(pool.inflight)).id, Release.ACCESS_LOG)
    forward = await exchange.waited()
    assert isinstance(forward, Forward)
    assert forward.metadata["envoy.lb"]["x-gateway-destination-endpoint"] == address(0)
    exchange.end(End(Outcome.ABANDONED))
    assert in_flight(pool) == 0


async def test_a_head_without_its_body_is_not_the_end(director, pool):
    """A filter with response headers and no body mode closes at the head; the access log tells of the end."""
    exchange = open_(director)
    await exchange.request(request(metadata=ATTACHED))
    assert await exchange.response_head(ResponseHead(200, Headers(), body_seen=False)) == Forward()
    exchange.end(End(Outcome.FORWARDED))
    assert in_flight(pool) == 1


async def test_a_head_without_a_body_is_the_end(director, pool):
    """Nothing follows it."""
    exchange = open_(director)
    await exchange.request(request(metadata=ATTACHED))
    await exchange.response_head(ResponseHead(204, Headers(), end=True))
    exchange.end(End(Outcome.FORWARDED))
    assert in_flight(pool) == 0
