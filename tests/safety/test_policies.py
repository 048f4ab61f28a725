from __future__ import annotations

import asyncio
import json

import pytest

from services.extproc.script import Script
from services.safety.providers.base import ProviderVerdict
from services.safety.service import Safety
from services.safety.shadow import Shadows
from services.safety.verdict import Action, State
from tests.safety import kit
from tests.safety.exchange import JSON, SSE, Exchange, Heard, Judge, error, prompt
from tests.safety.test_stream import finals

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
    assert one.heard.records[-1].verdict.findings == ()


async def test_a_placeholder_comes_back_in_the_final_events_too():
    """What repeats the answer says what its pieces said: the value, and masks for what the model made up."""
    one = exchange("placeholder")
    await one.ask(prompt(f"pay {CARD}"))
    pieces = ["paid [CARD", "-1-9f], not 5500 0000", " 0000 0004"]
    answer = await one.answer(200, SSE, b"".join(kit.responses(pieces)))
    said = f"paid {CARD}, not [REDACTED:card]"
    assert kit.said(answer.body) == said
    assert finals(answer.body) == [said] * 4


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
    await one.service.shadows.drain()
    seen = [(r.policy, r.verdict.action, r.enforced, r.against) for r in one.heard.records]
    assert seen == [
        ("default", Action.ALLOW, True, None),
        ("default", Action.ALLOW, True, None),
        ("candidate", Action.BLOCK, False, Action.ALLOW),
        ("candidate", Action.BLOCK, False, Action.ALLOW),
    ]


SLOW = """
providers: {far: {type: far}}
policies:
  default: {prompt: {actions: [{match: [secret], action: block}]}, response: {}, shadow: candidate}
  candidate:
    prompt: {providers: [{name: far}]}
    response: {providers: [{name: far}], stream: window}
"""


class Stuck:
    """A judge that answers when it is told to."""

    def __init__(self):
        self.go, self.seen = asyncio.Event(), []

    async def judge(self, texts, context, deadline):
        self.seen += [text.value for text in texts]
        await self.go.wait()
        return ProviderVerdict(Action.BLOCK, reason="hate")

    async def close(self):
        pass


async def test_live_traffic_does_not_wait_for_a_shadows_judge():
    """Prompt and answer pass while it is silent; its verdicts come later, in their order."""
    judge = Stuck()
    policies = kit.policies(SLOW, providers={"far"})
    one = Exchange(policies=policies, providers={"far": judge})
    assert (await one.ask(prompt("hi"))).rejected is None
    events = b"".join(kit.chat(["and ", "bye"]))
    assert (await one.answer(200, SSE, events)).body == events
    one.script.close()
    assert judge.seen == []
    judge.go.set()
    await one.service.shadows.drain()
    assert judge.seen == ["hi", "and bye"]
    shadow = one.heard.records[2:]
    assert [record.verdict.action for record in shadow] == [Action.BLOCK] * 2
    assert not any(record.enforced for record in shadow)


async def test_judgements_that_nobody_has_time_for_are_dropped_and_counted():
    """Bounded, however many exchanges there are; those that wait are made."""
    dropped, shadows = [], Shadows(lambda: dropped.append(1), waiting=3)
    for _ in range(5):
        one = Exchange(policies=kit.policies(CONFIG.replace("FORM", "mask")), shadows=shadows)
        await one.ask(prompt("jane@example.org"))
    assert len(dropped) == 2
    await shadows.drain()
    assert [record.policy for record in one.heard.records] == ["default"]


async def test_a_shadow_that_breaks_is_nobodys_loss():
    """A bug in it is logged; the next one is judged."""

    async def broken():
        raise ZeroDivisionError

    done, shadows = asyncio.Event(), Shadows()

    async def works():
        done.set()

    shadows.submit(broken, 1)
    shadows.submit(works, 1)
    async with shadows.running(), asyncio.timeout(30):
        await done.wait()


async def test_a_refusal_names_the_request():
    """In the header for all, in the body where the dialect has a place for it."""
    header = {"x-request-id": "r-1"}
    sent = await exchange().ask(prompt(kit.SECRET), headers=header)
    assert ("x-request-id", "r-1") in sent.rejected.headers
    assert error(sent.rejected)["type"] == "content_policy_violation"
    sent = await exchange().ask(prompt(kit.SECRET), headers=header, path="/v1/messages")
    assert json.loads(sent.rejected.body)["request_id"] == "r-1"


class Deaf:
    """An observer with a bug."""

    def verdict(self, record):
        raise ZeroDivisionError


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("side", ["request", "answer"])
async def test_a_bug_refuses_and_names_the_request(side, path):
    """The service fails closed, with the id by which the log tells which request it was."""
    service = Safety(kit.demo(), Heard() if side == "answer" else Deaf(), b"key")
    script = Script(service, response_body="FULL_DUPLEX_STREAMED", contain=True)
    sent = await script.request({":path": path, "x-request-id": "r-1", **JSON}, kit.body(prompt("hi")))
    if side == "answer":
        service.observer = Deaf()
        sent = await script.response(200, JSON, kit.body({"choices": []}))
    assert [type(failure) for failure in script.failures] == [ZeroDivisionError]
    assert sent.rejected is not None
    assert sent.rejected.status == 500
    assert ("x-request-id", "r-1") in sent.rejected.headers
    if path == "/v1/messages":
        assert json.loads(sent.rejected.body)["request_id"] == "r-1"


async def test_an_answer_that_no_judge_could_judge_is_an_outage():
    """Not a violation: 503, as for prompts."""
    text = "providers: {far: {type: far}}\npolicies: {default: {response: {providers: [{name: far}], stream: window}}}"
    late = Judge(ProviderVerdict(Action.ALLOW, State.TIMEOUT))
    one = Exchange(policies=kit.policies(text, providers={"far"}), providers={"far": late})
    await one.ask(prompt("hi"))
    answer = await one.answer(200, JSON, kit.body({"choices": [{"message": {"content": "a"}}]}))
    assert (answer.rejected.status, error(answer.rejected)["code"]) == (503, "unjudged")


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
