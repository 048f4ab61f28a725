"""The official OpenAI SDK against the gateway, as a user would run it."""

from __future__ import annotations

import asyncio

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from tests.e2e.gateway.stack import ADAPTER, BASE, OTHER, SPLIT
from tests.e2e.harness.clients import Ask, http1

pytestmark = pytest.mark.e2e

HELLO = [{"role": "user", "content": "hello"}]
SECRET = "AKIA" + "IOSFODNN7" + "EXAMPLQ"  # in pieces, so that no scanner of this repository takes it for one


@pytest.mark.parametrize("model", [BASE, ADAPTER, SPLIT, OTHER])
def test_a_chat_completion_says_model_usage_and_text(sdk, model):
    """For base models and adapters alike."""
    answer = sdk.chat.completions.create(model=model, messages=HELLO, max_tokens=8)
    assert answer.model == model
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens == 8


def test_a_streamed_answer_is_the_plain_one_in_pieces(sdk):
    """The same words, a finish reason at the end, and usage when it was asked for."""
    question = {"model": BASE, "messages": HELLO, "max_tokens": 40}
    plain = sdk.chat.completions.create(**question).choices[0].message.content
    events = list(
        sdk.chat.completions.create(**question, stream=True, stream_options={"include_usage": True})
    )
    texts = [choice.delta.content for event in events for choice in event.choices if choice.delta.content]
    assert "".join(texts) == plain
    assert len(texts) > 1
    assert [choice.finish_reason for event in events for choice in event.choices][-1] == "length"
    assert events[-1].usage.completion_tokens == 40


def test_completions_plain_and_streamed(sdk):
    """The older API gives the same text in both forms."""
    question = {"model": BASE, "prompt": "one two", "max_tokens": 12}
    plain = sdk.completions.create(**question).choices[0].text
    streamed = "".join(
        event.choices[0].text for event in sdk.completions.create(**question, stream=True) if event.choices
    )
    assert plain
    assert streamed == plain


def test_embeddings(sdk):
    """One vector per input, and different ones for different inputs."""
    first, second = sdk.embeddings.create(model=BASE, input=["a", "b"]).data
    assert len(first.embedding) == len(second.embedding) > 0
    assert first.embedding != second.embedding


def test_models_are_those_of_all_pools_with_adapters(sdk, gateway):
    """The list is the same as that of the ready line."""
    models = {model.id for model in sdk.models.list()}
    assert {BASE, ADAPTER, "cad-fabricator", SPLIT, OTHER} <= models
    assert models == set(gateway.models)


def test_an_unknown_model_is_not_found(sdk):
    """The error names the model and has the parts that the SDK shows."""
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="no-such-model", messages=HELLO)
    assert "no-such-model" in caught.value.message
    assert caught.value.code == "model_not_found"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"]


BAD = [b"{", b"", b"[]", b"null", b'{"messages": []}', b'{"model": "a", "model": "b"}', b'{"model": "\xff"}']


@pytest.mark.parametrize("body", BAD)
def test_a_body_that_cannot_be_read_is_a_bad_request(gateway, body):
    """Router and server could read it differently, so nobody gets it."""
    before = [gateway.state(server).raw["requests"] for server in gateway.servers]
    headers = {"content-type": "application/json"}
    answer = gateway.http.post(f"{gateway.gateway}/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert [gateway.state(server).raw["requests"] for server in gateway.servers] == before


def test_a_bad_request_is_an_error_that_the_sdk_shows(sdk):
    """The field is named, as by the API itself."""
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=7, messages=HELLO)
    assert caught.value.param == "model"
    assert caught.value.message


async def test_a_body_over_the_limit_is_too_large(gateway):
    """413 with a JSON error, for a client that reads while it still sends."""
    port = int(gateway.gateway.rpartition(":")[2])
    headers = (("content-type", "application/json"),)
    answer = await http1(port, Ask("/v1/chat/completions", (b"x" * 17_000_000,), headers))
    assert answer.status == 413
    assert b'"error"' in answer.body
    assert b'"message"' in answer.body


@pytest.mark.parametrize("stream", [False, True])
def test_a_secret_in_a_prompt_is_refused_by_policy(sdk, stream):
    """The refusal says why and does not repeat the secret."""
    messages = [{"role": "user", "content": f"echo: my key is {SECRET}"}]
    with pytest.raises(openai.PermissionDeniedError) as caught:
        sdk.chat.completions.create(model=BASE, messages=messages, stream=stream)
    assert "policy" in caught.value.message
    assert SECRET not in str(caught.value.body)


async def test_the_async_client_streams_side_by_side(gateway):
    """Sixteen streams at once, each whole."""

    async def stream(client: openai.AsyncOpenAI, number: int) -> str:
        question: ChatCompletionUserMessageParam = {
            "role": "user",
            "content": f"echo: this is answer {number} of many",
        }
        events = await client.chat.completions.create(model=BASE, messages=[question], stream=True)
        return "".join([choice.delta.content or "" async for event in events for choice in event.choices])

    async with openai.AsyncOpenAI(
        base_url=f"{gateway.gateway}/v1", api_key="unused", max_retries=0
    ) as client:
        texts = await asyncio.gather(*(stream(client, number) for number in range(16)))
    assert texts == [f"this is answer {number} of many" for number in range(16)]
