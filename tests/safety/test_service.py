from __future__ import annotations

import json

import pytest

from services.extproc.errors import Internal
from services.safety.verdict import Action, Direction, State
from tests.safety import kit
from tests.safety.exchange import JSON, SSE, Exchange, error, prompt

MODES = pytest.mark.parametrize("mode", ["BUFFERED", "FULL_DUPLEX_STREAMED"])


@MODES
async def test_a_clean_prompt_goes_on_byte_for_byte(mode):
    """Nothing is rewritten where nothing is found."""
    exchange = Exchange(request=mode)
    body = b' {"model" : "m", "messages":[{"role":"user","content":"caf\\u00e9 1e5"}], "x":1.0 }'
    sent = await exchange.ask(body)
    assert sent.body == body
    assert sent.rejected is None
    assert exchange.heard.records[0].verdict.action is Action.ALLOW


@MODES
async def test_a_secret_in_a_prompt_is_refused_and_the_refusal_says_why(mode):
    """403 in OpenAI's form: type, category as code, the operator's message."""
    exchange = Exchange(request=mode)
    sent = await exchange.ask(prompt(f"my key is {kit.SECRET}"))
    assert sent.rejected.status == 403
    assert error(sent.rejected) == {
        "message": "Blocked by the content policy: secret.",
        "type": "content_policy_violation",
        "param": None,
        "code": "secret",
    }


async def test_the_refusal_speaks_anthropic_on_its_endpoint():
    """Each dialect's own error form."""
    sent = await Exchange().ask(prompt(kit.SECRET), path="/v1/messages")
    assert json.loads(sent.rejected.body)["type"] == "error"
    assert "secret" in error(sent.rejected)["message"]


@MODES
async def test_redaction_changes_the_found_value_and_no_other_byte(mode):
    """Key order, spacing, escapes and big numbers stay as the client sent them."""
    exchange = Exchange(request=mode)
    body = b'{"seed":9007199254740993, "messages":[{"role":"user","content":"a\\u00e9"},\n{"content":"pay 4111 1111 1111 1111 now","role":"user"}],"x":1.0}'
    sent = await exchange.ask(body)
    assert sent.body == body.replace(b"4111 1111 1111 1111", b"[REDACTED:card]")


@pytest.mark.parametrize(
    "document",
    [
        {"messages": [{"role": "tool", "tool_call_id": "1", "content": kit.SECRET}]},
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"function": {"name": "f", "arguments": kit.body({"k": kit.SECRET}).decode()}}
                    ],
                }
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "text", "text": kit.SECRET}]}]},
        {"messages": [{"role": "user", "name": kit.SECRET, "content": "x"}]},
        {"tools": [{"function": {"name": "f", "description": kit.SECRET}}]},
        {"prompt": ["x", kit.SECRET]},
        {"input": kit.SECRET},
        {"system": kit.SECRET},
        {"metadata": {kit.SECRET: 1}},
        {"prediction": {"type": "content", "content": kit.SECRET}},
    ],
)
async def test_no_field_of_a_request_hides_a_secret(document):
    """The walk is over everything, so the block is too."""
    assert (await Exchange().ask(document)).rejected.status == 403


async def test_an_inspected_finding_is_reported_and_nothing_changes():
    """The record has rule, path and span, never the text."""
    exchange = Exchange()
    sent = await exchange.ask(prompt("write jane@example.org"))
    (record,) = exchange.heard.records
    assert sent.rejected is None
    assert record.verdict.action is Action.INSPECT
    (located,) = record.verdict.findings
    assert (located.finding.rule, located.path, located.finding.start) == (
        "email",
        ("messages", 0, "content"),
        6,
    )
    assert record.direction is Direction.PROMPT
    assert record.text_hash
    assert "jane" not in repr(record)


@pytest.mark.parametrize("body", [b"{", b'{"messages":[],"messages":[]}', b"\xff"])
async def test_what_claims_to_be_json_and_is_not_is_refused(body):
    """Fail-closed: two readers may read it differently. `on_error: open` lets it pass, and counts it."""
    assert (await Exchange().ask(body)).rejected.status == 400
    exchange = Exchange(context={"x-safety-policy": "open"})
    assert (await exchange.ask(body)).body == body
    assert exchange.heard.records[0].verdict.skipped == ("undecodable",)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"content-type": "multipart/form-data; boundary=x"}, "content_type"),
        ({"content-encoding": "br"}, "encoded"),
        ({"content-type": "audio/wav"}, "content_type"),
    ],
)
async def test_what_no_rule_can_read_follows_its_own_policy(headers, why):
    """`unscannable: allow` lets it pass and says so; `block`, the default, refuses."""
    exchange = Exchange()
    assert (await exchange.ask(b"\x00\x01", headers=headers)).body == b"\x00\x01"
    assert exchange.heard.records[0].verdict.skipped == (why,)
    assert exchange.heard.records[0].verdict.state is State.SKIPPED
    strict = await Exchange(context={"x-safety-policy": "strict"}).ask(b"\x00\x01", headers=headers)
    assert strict.rejected.status == 403
    assert error(strict.rejected)["code"] == "unscannable"


async def test_token_ids_and_images_follow_the_same_policy():
    """Never silence."""
    document = {"prompt": [1, 2, 3]}
    exchange = Exchange()
    assert (await exchange.ask(document)).rejected is None
    assert exchange.heard.records[0].verdict.skipped == ("tokens",)
    assert (await Exchange(context={"x-safety-policy": "strict"}).ask(document)).rejected.status == 403


async def test_a_form_that_is_really_json_is_read_all_the_same():
    """A wrong content type is no way around the policy."""
    sent = await Exchange().ask(prompt(kit.SECRET), headers={"content-type": "text/plain"})
    assert sent.rejected.status == 403


async def test_the_model_chooses_the_policy_and_the_route_overrules_it():
    """`free` has no policy to speak of; the route's metadata names another."""
    header = {"x-gateway-model-name": "free"}
    assert (await Exchange().ask(prompt(kit.SECRET), headers=header)).rejected is None
    routed = Exchange(context={"x-safety-policy": "default"})
    assert (await routed.ask(prompt(kit.SECRET), headers=header)).rejected.status == 403


@MODES
async def test_without_a_router_the_body_names_the_model(mode):
    """Behind an Envoy that has no header for it; two names are none."""
    free = {**prompt(kit.SECRET), "model": "free"}
    sent = await Exchange(request=mode).ask(free)
    assert (sent.rejected, sent.body) == (None, kit.body(free))
    assert (await Exchange(request=mode).ask({**free, "model": "other"})).rejected.status == 403
    two = kit.body(free)[:-1] + b', "model": "other"}'
    assert (await Exchange(request=mode).ask(two)).rejected.status == 400


async def test_a_route_that_names_no_policy_of_ours_is_refused():
    """A typo must not switch the filter off."""
    sent = await Exchange(context={"x-safety-policy": "tpyo"}).ask(prompt("hi"))
    assert sent.rejected.status == Internal.status


async def test_a_model_without_rules_costs_nothing():
    """Headers decide the request, and the answer's body is not asked for."""
    exchange = Exchange()
    await exchange.ask(prompt(kit.SECRET), headers={"x-gateway-model-name": "free"})
    answer = await exchange.answer(200, JSON, kit.body({"x": kit.SECRET}))
    assert kit.SECRET.encode() in answer.body
    assert exchange.heard.records == []


ANSWER = {
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": f"it is {kit.SECRET}."},
            "logprobs": {"content": [{"token": "AKIA"}]},
        }
    ]
}


@pytest.mark.parametrize("mode", ["BUFFERED", "FULL_DUPLEX_STREAMED"])
async def test_a_whole_answer_is_redacted_at_every_cut(mode):
    """The model's answer leaves masked, its log probabilities empty."""
    body = kit.body(ANSWER)
    for cut in range(0, len(body), 1 if mode == "FULL_DUPLEX_STREAMED" else len(body)):
        exchange = Exchange(response=mode)
        await exchange.ask(prompt("hi"))
        answer = await exchange.answer(200, JSON, body, cut=[cut] if cut else [])
        message = json.loads(answer.body)["choices"][0]
        assert (message["message"]["content"], message["logprobs"]) == (
            "it is [REDACTED:aws-access-key].",
            None,
        )
    assert exchange.heard.records[-1].direction is Direction.RESPONSE


async def test_a_whole_answer_that_is_forbidden_becomes_an_error():
    """403 in the dialect's form."""
    exchange = Exchange()
    await exchange.ask(prompt("hi"))
    answer = await exchange.answer(200, JSON, kit.body({"content": "project bluebird"}))
    assert answer.rejected.status == 403
    assert error(answer.rejected)["code"] == "blocklist"


async def test_a_streamed_answer_is_redacted_at_every_cut():
    """No byte of the secret passes, wherever the network cuts the stream."""
    stream = b"".join(kit.chat(["it is ", kit.SECRET[:7], kit.SECRET[7:], " ok"]))
    for cut in range(1, len(stream), 5):
        exchange = Exchange()
        await exchange.ask(prompt("hi"))
        answer = await exchange.answer(200, SSE, stream, cut=[cut])
        assert kit.said(answer.body) == "it is [REDACTED:aws-access-key] ok"
        assert answer.complete
    exchange.script.close()
    assert exchange.heard.records[-1].held_bytes == len(kit.SECRET)


async def test_a_forbidden_stream_ends_early_and_well():
    """The client gets a valid end, Envoy closes the upstream."""
    exchange = Exchange()
    await exchange.ask(prompt("hi"))
    await exchange.script.response_head(200, SSE)
    for event in kit.chat(["see ", "project ", "bluebird", " for more"]):
        answer = await exchange.script.response_chunk(event)
    assert answer.ended
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert kit.said(answer.body) == "see "
    exchange.script.close()
    assert exchange.heard.records[-1].verdict.action is Action.BLOCK


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_error_answers_pass_untouched(status):
    """They hold no model's words."""
    exchange = Exchange()
    await exchange.ask(prompt("hi"))
    body = kit.body({"error": {"message": kit.SECRET}})
    assert (await exchange.answer(status, JSON, body)).body == body


async def test_answers_to_requests_never_seen_pass_untouched():
    """Envoy or an earlier filter made them."""
    exchange = Exchange()
    answer = await exchange.answer(200, JSON, b'{"made":"by Envoy"}')
    assert answer.body == b'{"made":"by Envoy"}'


async def test_an_answer_that_cannot_be_read_is_refused():
    """Fail-closed, per direction."""
    exchange = Exchange()
    await exchange.ask(prompt("hi"))
    assert (await exchange.answer(200, JSON, b"{oops")).rejected.status == 502
    opened = Exchange(context={"x-safety-policy": "open"})
    await opened.ask(prompt("hi"))
    assert (await opened.answer(200, JSON, b"{oops")).body == b"{oops"


@pytest.mark.parametrize("headers", [JSON | {"content-encoding": "br"}, {"content-type": "audio/wav"}])
async def test_answers_that_no_rule_can_read_follow_their_policy(headers):
    """The default refuses, the demo lets pass and counts."""
    for policy, status in (("default", None), ("strict", 403)):
        exchange = Exchange(context={"x-safety-policy": policy})
        await exchange.ask({"messages": []})
        answer = await exchange.answer(200, headers, b"\x00")
        assert (answer.rejected.status if answer.rejected else None) == status


async def test_nobody_may_compress_an_answer_that_will_be_judged():
    """The server is not told that the client could take it."""
    sent = await Exchange().ask(prompt("hi"), headers={"accept-encoding": "gzip"})
    assert "accept-encoding" in sent.remove_headers
