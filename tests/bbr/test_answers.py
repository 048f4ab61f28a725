"""The answer to a rewritten request."""

from __future__ import annotations

import json

import pytest

from services.bbr.routing import ASKED, TARGET
from services.bbr.rules import Rules
from services.extproc.decisions import Forward
from services.extproc.events import Metadata
from services.extproc.script import Script, at_every_cut
from tests.bbr.world import ALIASES, MODELS, asking, bbr, chat

NAMES: Metadata = {"gw.bbr": {"digest": "", ASKED: "my é/model", TARGET: "llama"}}
EVENTS = (
    b'data: {"id":"1","model":"llama","choices":[{"delta":{"content":"\\"model\\":\\"llama\\""}}]}\n\n'
    b': ping\r\n\r\nevent: x\ndata: {"type":"message_start","message":{"model" : "llama"}}\n\n'
    b"data: [DONE]\n\n"
)
JSON = b'{"id":"1", "choices":[{"message":{"content":"llama","model":"llama"}}],\n "model" :"llama"}'


def renamed(wire: bytes, *values: tuple[bytes, bytes]) -> bytes:
    for before, after in values:
        assert before in wire
        wire = wire.replace(before, after)
    return wire


NEW = json.dumps("my é/model", ensure_ascii=False).encode()
EVENTS_AFTER = renamed(
    EVENTS, (b'"1","model":"llama"', b'"1","model":' + NEW), (b'"model" : "llama"', b'"model" : ' + NEW)
)
JSON_AFTER = renamed(JSON, (b'"model" :"llama"', b'"model" :' + NEW))


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
@pytest.mark.parametrize(
    ("content_type", "body", "after"),
    [
        ("text/event-stream; charset=utf-8", EVENTS, EVENTS_AFTER),
        ("application/json", JSON, JSON_AFTER),
        ("application/problem+json", JSON, JSON_AFTER),
        ("audio/mpeg", JSON, JSON),
    ],
)
async def test_the_client_sees_its_own_name_however_the_answer_is_cut(mode, content_type, body, after):
    """Where a dialect says which model answered, and nowhere else; no other byte changes."""

    async def run(cut):
        script = Script(bbr(), response_body=mode)
        answer = await script.response(200, {"content-type": content_type}, body, cut=cut, metadata=NAMES)
        assert answer.complete
        assert script.close().reason == ""
        return answer.body

    assert await at_every_cut(run, body) == after


@pytest.mark.parametrize("trailers", [{"x-checksum": "1"}, None])
@pytest.mark.parametrize("empty_last", [True, False])
async def test_however_the_answer_ends_nothing_of_it_is_lost(trailers, empty_last):
    """By trailers, an empty last piece or a full one; the last event may lack its blank line."""
    script = Script(bbr(), response_body="FULL_DUPLEX_STREAMED")
    answer = await script.response(
        200,
        {"content-type": "text/event-stream"},
        EVENTS[:-1],
        cut=[5],
        metadata=NAMES,
        trailers=trailers,
        empty_last=empty_last,
    )
    assert (answer.body, answer.complete) == (EVENTS_AFTER[:-1], True)


async def test_an_event_leaves_as_soon_as_it_is_complete():
    """A stream stays a stream."""
    script = Script(bbr(), response_body="FULL_DUPLEX_STREAMED")
    await script.response_head(200, {"content-type": "text/event-stream"}, metadata=NAMES)
    first, _, rest = EVENTS.partition(b"\n\n")
    assert (await script.response_chunk(first + b"\n\n" + rest[:3])).body == EVENTS_AFTER.partition(b"\n\n")[
        0
    ] + b"\n\n"


@pytest.mark.parametrize(
    ("headers", "metadata"),
    [
        ({"content-type": "application/json"}, {}),
        ({"content-type": "application/json"}, {"gw.bbr": {ASKED: 7.0}}),
        ({"content-type": "application/json", "content-encoding": "gzip"}, NAMES),
    ],
)
async def test_what_needs_no_name_or_cannot_be_read_passes_unseen(headers, metadata):
    """No byte waits for its end."""
    script = Script(bbr(), response_body="FULL_DUPLEX_STREAMED")
    await script.response_head(200, headers, metadata=metadata)
    assert (await script.response_chunk(JSON[:20])).body == JSON[:20]


async def test_an_answer_too_long_to_hold_passes_with_the_servers_name():
    """Rather than fill the memory, or fail."""
    script = Script(bbr(answer_limit=30), response_body="FULL_DUPLEX_STREAMED")
    answer = await script.response(200, {}, JSON, cut=[20, 50], metadata=NAMES)
    assert (answer.body, answer.complete) == (JSON, True)


async def test_one_filter_for_both_halves_needs_no_metadata():
    """Gateways that send both directions through one filter."""
    script = Script(bbr(), response_body="FULL_DUPLEX_STREAMED")
    await script.request({}, chat("l"))
    assert (await script.response(200, {}, b'{"model":"llama"}')).body == b'{"model":"l"}'


@pytest.mark.parametrize(
    ("mode", "content_type", "after"),
    [
        ("NONE", "application/json", JSON),
        ("NONE", "text/event-stream", EVENTS),
        ("STREAMED", "application/json", JSON),
        ("STREAMED", "text/event-stream", EVENTS_AFTER),
    ],
)
async def test_a_filter_that_cannot_carry_the_change_carries_the_answer(mode, content_type, after):
    """Envoy sends the heads of answers where nobody told it not to; a name is no reason to lose an answer."""
    body = EVENTS if content_type == "text/event-stream" else JSON
    script = Script(bbr(), response_body=mode)
    answer = await script.response(200, {"content-type": content_type}, body, cut=[5, 90], metadata=NAMES)
    assert answer.complete
    assert answer.body == after


def marks(model: str, **rules: object) -> tuple[str | None, object]:
    decision = bbr(rules=Rules(MODELS, ALIASES, **rules)).decide(  # type: ignore[arg-type]  # a field's name
        asking(chat(model), x_gateway_client_model_name="forged")
    )
    assert isinstance(decision, Forward)
    removed = "x-gateway-client-model-name" in decision.remove_headers
    header = None if removed else dict(decision.set_headers)["x-gateway-client-model-name"]
    return header, decision.metadata["gw.bbr"].get(ASKED)


def test_routes_learn_of_a_rewrite_by_a_header_and_the_answers_filter_by_metadata():
    """Both carry the client's name, which metadata keeps from being forged."""
    assert marks("l") == ("l", "l")


@pytest.mark.parametrize(("model", "rules"), [("llama", {}), ("l", {"answers_named_as_asked": False})])
def test_where_no_name_is_to_be_restored_nothing_asks_for_it(model, rules):
    """A request without a rewrite, or a gateway that shows the server's names: the answer passes BBR by."""
    assert marks(model, **rules) == (None, None)
