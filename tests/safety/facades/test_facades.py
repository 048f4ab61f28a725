from __future__ import annotations

import base64
import contextlib
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from services.openai.texts import Kind, Text
from services.safety.facades.config import FacadesConfig
from services.safety.facades.server import application
from services.safety.providers.base import Context, ProviderVerdict
from services.safety.providers.registry import PROVIDERS
from services.safety.providers.settings import Auth
from services.safety.service import Safety
from services.safety.verdict import Action, Direction, State
from tests.safety import kit
from tests.safety.exchange import Heard

ARMOR = "/v1/projects/p/locations/l/templates/{}:sanitize{}"
LITELLM = "/beta/litellm_basic_guardrail_api"
CARD = "pay 4111 1111 1111 1111 now"
MASKED = "pay [REDACTED:card] now"


class Says:
    def __init__(self, verdict):
        self.answer = verdict

    async def judge(self, texts, context, deadline):
        return self.answer

    async def close(self):
        pass


REMOTE = """
providers: {far: {type: far}}
policies: {default: {prompt: {providers: [{name: far}]}}}
"""


def service(verdict=None):
    if verdict is None:
        return Safety(kit.demo(), Heard(), b"key")
    return Safety(kit.policies(REMOTE, providers={"far"}), Heard(), b"key", {"far": Says(verdict)})


@contextlib.asynccontextmanager
async def facade(served=None, auth=None):
    config = FacadesConfig(port=0, auth=auth)
    server = TestServer(application(served or service(), config), shutdown_timeout=0)
    client: TestClient[Any, Any] = TestClient(server)
    async with client:
        yield client


async def post(path, document, served=None, **more):
    async with facade(served) as client:
        answer = await client.post(path, json=document, **more)
        return answer.status, await answer.json()


async def sanitize(text, method="UserPrompt", policy="default", served=None):
    field = "userPromptData" if method == "UserPrompt" else "modelResponseData"
    status, answer = await post(ARMOR.format(policy, method), {field: {"text": text}}, served)
    assert status == 200, answer
    return answer["sanitizationResult"]


async def test_a_clean_prompt_has_no_match():
    """And the record says which policy judged it."""
    served = service()
    result = await sanitize("hello", served=served)
    assert (result["filterMatchState"], result["invocationResult"]) == ("NO_MATCH_FOUND", "SUCCESS")
    (record,) = served.observer.records
    assert (record.policy, record.direction) == ("default", Direction.PROMPT)


async def test_a_blocked_prompt_is_a_match_with_spans():
    """As sensitive data, by rule."""
    result = await sanitize(f"key {kit.SECRET}")
    found = result["filterResults"]["sdp"]["sdpFilterResult"]["inspectResult"]
    assert result["filterMatchState"] == found["matchState"] == "MATCH_FOUND"
    assert found["findings"][0]["infoType"] == "aws-access-key"
    assert found["findings"][0]["location"]["codepointRange"] == {"start": "4", "end": "24"}


async def test_a_redacted_text_comes_back_deidentified():
    """In answers too."""
    for method in ("UserPrompt", "ModelResponse"):
        result = await sanitize(CARD, method)
        assert result["filterResults"]["sdp"]["sdpFilterResult"]["deidentifyResult"]["data"] == {
            "text": MASKED
        }


async def test_what_is_only_inspected_is_no_match():
    """A caller blocks on any match; the policy does not want that."""
    served = service()
    assert (await sanitize("write jane@example.org", served=served))["filterMatchState"] == "NO_MATCH_FOUND"
    assert served.observer.records[0].verdict.action is Action.INSPECT


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("injection", "pi_and_jailbreak"),
        ("url", "malicious_uris"),
        ("csam", "csam"),
        ("hate", "rai"),
        ("whatever", "sdp"),
    ],
)
async def test_a_remote_judges_category_finds_its_filter(category, name):
    """Whatever has none is sensitive data."""
    result = await sanitize("x", served=service(ProviderVerdict(Action.BLOCK, reason=category)))
    assert list(result["filterResults"]) == [name]


async def test_without_a_verdict_there_is_no_answer():
    """Fail-closed is 503: a caller with its own policy for failures applies it."""
    status, answer = await post(
        ARMOR.format("default", "UserPrompt"),
        {"userPromptData": {"text": "x"}},
        service(ProviderVerdict(Action.ALLOW, State.TIMEOUT)),
    )
    assert (status, answer["error"]["status"]) == (503, "UNAVAILABLE")


async def test_texts_may_come_as_bytes_and_files_may_not():
    """PDF and the like are refused, not passed."""
    for kind, expected in (("PLAINTEXT_UTF8", 200), ("PDF", 400)):
        item = {"byteDataType": kind, "byteData": base64.b64encode(CARD.encode()).decode()}
        status, _ = await post(ARMOR.format("default", "UserPrompt"), {"userPromptData": {"byteItem": item}})
        assert status == expected


async def test_an_unknown_template_is_not_found():
    """And never the default policy."""
    status, answer = await post(ARMOR.format("none-such", "UserPrompt"), {"userPromptData": {"text": "x"}})
    assert (status, answer["error"]["status"]) == (404, "NOT_FOUND")


def guardrail(texts, **more):
    return {"texts": texts, "input_type": "request", "model": "m", "request_data": {}, **more}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (guardrail(["hello"]), {"action": "NONE"}),
        (guardrail(["hello", CARD]), {"action": "GUARDRAIL_INTERVENED", "texts": ["hello", MASKED]}),
        (guardrail([kit.SECRET]), {"action": "BLOCKED", "blocked_reason": "Blocked by the content policy: secret."}),
        (guardrail([kit.SECRET], model="free"), {"action": "NONE"}),
        (guardrail(["x"], tool_calls=[{"function": {"name": "f", "arguments": CARD}}]), {"action": "BLOCKED", "blocked_reason": "Blocked by the content policy: pii."}),
        (guardrail([CARD], structured_messages=[{"role": "user", "content": CARD}]), {"action": "GUARDRAIL_INTERVENED", "texts": [MASKED]}),
        (guardrail(["x"], structured_messages=[{"role": "user", "name": kit.SECRET, "content": "x"}]), {"action": "BLOCKED", "blocked_reason": "Blocked by the content policy: secret."}),
        (guardrail(None), {"action": "NONE"}),
    ],
)  # fmt: skip
async def test_a_guardrail_says_none_blocked_or_intervened(document, expected):
    """What cannot be masked in its answer is blocked."""
    assert await post(LITELLM, document) == (200, expected)


async def test_a_guardrails_policy_is_its_paths():
    """And no parameter of the body's, which clients may add to."""
    document = guardrail([CARD], additional_provider_specific_params={"policy": "none"})
    assert (await post("/policies/none" + LITELLM, document))[1] == {"action": "NONE"}
    assert (await post(LITELLM, document))[1]["action"] == "GUARDRAIL_INTERVENED"
    assert (await post("/policies/none-such" + LITELLM, document))[0] == 404


async def test_images_follow_the_policy_for_what_no_check_can_read():
    """Blocked where that is said."""
    document = guardrail(["x"], images=["https://example.org/cat.png"])
    assert (await post("/policies/default" + LITELLM, document))[1] == {"action": "NONE"}
    assert (await post("/policies/strict" + LITELLM, document))[1]["action"] == "BLOCKED"


@pytest.mark.parametrize("headers", [{"authorization": "Bearer t0ken"}, {"x-api-key": "t0ken"}])
async def test_callers_prove_themselves(headers, monkeypatch):
    """With the token, in either place."""
    monkeypatch.setenv("A_TOKEN", "t0ken")
    async with facade(auth=Auth(env="A_TOKEN")) as client:
        assert (await client.post(LITELLM, json=guardrail(["x"]), headers=headers)).status == 200
        assert (await client.post(LITELLM, json=guardrail(["x"]))).status == 401
        assert (await client.post(LITELLM, json=guardrail(["x"]), headers={"x-api-key": "?"})).status == 401


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("model-armor", {"template": "projects/p/locations/l/templates/default"}), ("litellm", {})],
)
@pytest.mark.parametrize(
    ("text", "action"), [("hello", Action.ALLOW), (CARD, Action.REDACT), (kit.SECRET, Action.BLOCK)]
)
async def test_our_own_client_understands_our_own_server(kind, parameters, text, action):
    """One gateway's policies serve another's."""
    async with facade() as client:
        provider = PROVIDERS[kind]({"url": str(client.make_url("")).rstrip("/"), **parameters})
        asked = Text(("a",), ("a",), "user", Kind.CONTENT, text)
        verdict = await provider.judge([asked], Context(Direction.PROMPT, "m", "p"), float("inf"))
        await provider.close()
    assert (verdict.action, verdict.state) == (action, State.JUDGED)
    if action is Action.REDACT:
        assert verdict.replacements == {0: MASKED}
