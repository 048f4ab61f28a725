from __future__ import annotations

import json

import pytest

from services.safety.service import Safety
from services.safety.verdict import Action
from tests.safety import kit
from tests.safety.test_service import JSON, SSE, Exchange, error, prompt

CARD, OTHER = "4111 1111 1111 1111", "5500 0000 0000 0004"
CONFIG = """
policies:
  default:
    prompt:
      actions:
      - {match: [card], action: block, roles: [tool]}
      - {match: [card], action: redact, roles: [user], redact_with: FORM}
      - {match: [secret], action: block, confidence: high}
    response: {actions: [{match: [card], action: redact}]}
    shadow: candidate
  candidate:
    prompt: {actions: [{match: [email], action: block}]}
    response: {actions: [{match: [us-ssn], action: block}]}
  partner: {}
  gke: {prompt: {actions: [{match: [secret], action: block}], error_type: plain_text, message: "No."}}
consumer_header: X-Consumer
consumers: {acme: partner}
"""


def exchange(form="mask", **more):
    return Exchange(policies=kit.policies(CONFIG.replace("FORM", form)), **more)


def conversation(**texts):
    return {"messages": [{"role": role, "content": text} for role, text in texts.items()]}


async def test_a_role_has_its_own_action():
    """The same number is masked in a user's text, refused in a tool's, and nobody's business in a system prompt."""
    sent = await exchange().ask(conversation(user=CARD, system=CARD))
    assert [message["content"] for message in json.loads(sent.body)["messages"]] == ["[REDACTED:card]", CARD]
    assert (await exchange().ask(conversation(tool=CARD))).rejected.status == 403


@pytest.mark.parametrize(
    ("token", "blocked"), [(kit.SECRET, True), ("Bearer abcdefGHIJ0123456789xyz", False)]
)
async def test_a_finding_that_is_not_sure_enough_is_not_meant(token, blocked):
    """`confidence: high` leaves the medium ones alone."""
    assert bool((await exchange().ask(prompt(token))).rejected) is blocked


async def test_a_hash_tells_equal_values_and_not_what_they_are():
    """Same value, same mask; keyed."""
    sent = await exchange("hash").ask(prompt(f"{CARD}, {OTHER}, {CARD}"))
    one, two, three = json.loads(sent.body)["messages"][0]["content"].split(", ")
    assert one == three != two
    assert one.startswith("[REDACTED:card:")
    assert "4111" not in sent.body.decode()


@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_a_placeholder_comes_back_as_what_it_stands_for(size):
    """In streams and whole answers, wherever cut, in JSON arguments with their quotes; and only there."""
    one = exchange("placeholder")
    sent = await one.ask(prompt(f"pay {CARD} or {OTHER} or {CARD}"))
    said = json.loads(sent.body)["messages"][0]["content"]
    assert said == "pay [CARD-1-9f] or [CARD-2-9f] or [CARD-1-9f]"
    text = "paid [CARD-2-9f], not [CARD-1-9f] [CARD-3-9f] [CA"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    answer = await one.answer(200, SSE, b"".join(kit.chat(pieces)))
    assert kit.said(answer.body) == f"paid {OTHER}, not {CARD} [CARD-3-9f] [CA"
    one.script.close()
    assert one.heard.records[-2].verdict.findings == ()


async def test_a_placeholder_comes_back_in_whole_answers():
    """Though the policy would mask a card that the model makes up."""
    one = exchange("placeholder")
    await one.ask(prompt(CARD))
    answer = await one.answer(200, JSON, kit.body({"content": f"[CARD-1-9f] {OTHER}"}))
    assert json.loads(answer.body)["content"] == f"{CARD} [REDACTED:card]"


async def test_a_consumer_has_its_own_policy_and_a_route_goes_before_it():
    """The header is the authenticating proxy's."""
    header = {"x-consumer": "acme"}
    assert (await exchange().ask(prompt(kit.SECRET), headers=header)).rejected is None
    assert (await exchange().ask(prompt(kit.SECRET), headers={"x-consumer": "other"})).rejected.status == 403
    routed = exchange(context={"x-safety-policy": "default"})
    assert (await routed.ask(prompt(kit.SECRET), headers=header)).rejected.status == 403


async def test_a_shadow_policy_changes_nothing_and_says_what_it_would_have_done():
    """Prompt and streamed answer: two records each, the second not enforced and beside the first."""
    one = exchange()
    sent = await one.ask(prompt("jane@example.org"))
    assert sent.rejected is None
    stream = b"".join(kit.chat(["no. 123-", "45-6789 ok"]))
    answer = await one.answer(200, SSE, stream)
    assert answer.body == stream
    one.script.close()
    seen = [(r.policy, r.verdict.action, r.enforced, r.against) for r in one.heard.records]
    assert seen == [
        ("default", Action.ALLOW, True, None),
        ("candidate", Action.BLOCK, False, Action.ALLOW),
        ("default", Action.ALLOW, True, None),
        ("candidate", Action.BLOCK, False, Action.ALLOW),
    ]


async def test_a_refusal_names_the_request():
    """In the header for all, in the body where the dialect has a place for it."""
    header = {"x-request-id": "r-1"}
    sent = await exchange().ask(prompt(kit.SECRET), headers=header)
    assert ("x-request-id", "r-1") in sent.rejected.headers
    assert error(sent.rejected)["type"] == "content_policy_violation"
    sent = await exchange().ask(prompt(kit.SECRET), headers=header, path="/v1/messages")
    assert json.loads(sent.rejected.body)["request_id"] == "r-1"


async def test_a_refusal_can_look_as_gke_sends_it():
    """JSON that calls itself text."""
    sent = await exchange(context={"x-safety-policy": "gke"}).ask(prompt(kit.SECRET))
    assert ("content-type", "text/plain") in sent.rejected.headers
    assert sent.rejected.status == 403
    assert error(sent.rejected) == {"type": "bad_request_error", "message": "No.", "param": "", "code": ""}


async def test_what_passes_unjudged_is_counted():
    """Fail-open is a fact of the record."""
    one = Exchange(context={"x-safety-policy": "open"})
    await one.ask(b"{oops")
    assert one.heard.records[0].verdict.failed_open == ("undecodable",)
    assert isinstance(one.service, Safety)
