"""The OpenAI API through the official client: what users of a vLLM see."""

from __future__ import annotations

import base64

import openai
import pytest

from tests.model_server.conftest import ADAPTER, MODEL


def user(text, system="Be terse."):
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


async def chat(sdk, text, **options):
    return await sdk.chat.completions.create(
        **{"model": MODEL, "max_tokens": 8, "messages": user(text)} | options
    )


async def stream_text(stream):
    return "".join([c.delta.content or "" async for chunk in stream for c in chunk.choices])


async def test_a_chat_completion_names_server_model_and_usage(sdk):
    """Who answered, what was asked for, and what it cost."""
    raw = await sdk.chat.completions.with_raw_response.create(
        model=MODEL, max_tokens=8, messages=user("hello")
    )
    answer = raw.parse()
    assert (answer.system_fingerprint, raw.headers["x-served-by"], answer.model) == (
        "mock-7",
        "mock-7",
        MODEL,
    )
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 8)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8


async def test_equal_requests_have_equal_answers(sdk):
    """Deterministic, streamed or not."""
    first, second = await chat(sdk, "hello"), await chat(sdk, "hello")
    streamed = await stream_text(await chat(sdk, "hello", stream=True))
    assert first.choices[0].message.content == second.choices[0].message.content == streamed


async def test_a_stream_comes_in_pieces_and_ends_with_reason_and_usage(sdk):
    """Role first, one chunk per token, then the reason, then the usage because it was asked for."""
    chunks = [c async for c in await chat(sdk, "hello", stream=True, stream_options={"include_usage": True})]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) == 8
    assert chunks[-2].choices[0].finish_reason == "length"
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 8)
    assert {c.system_fingerprint for c in chunks} == {"mock-7"}


async def test_usage_is_not_streamed_unasked(sdk):
    """As vLLM does."""
    assert not [c async for c in await chat(sdk, "hello", stream=True) if c.usage]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echo_says_what_it_is_told(sdk, stream):
    """In clear or in base64, plain or streamed."""
    secret = base64.b64encode(b"it is Gr\xc3\xbc\xc3\x9fe you know").decode()
    for text, said in (("echo: one two", "one two"), (f"echo-b64: {secret}", "it is Grüße you know")):
        answer = await chat(sdk, text, stream=stream, max_tokens=64)
        assert (await stream_text(answer) if stream else answer.choices[0].message.content) == said


async def test_stop_strings_and_limits_end_an_answer(sdk):
    """The reason says which."""
    stopped = await chat(sdk, "echo: one two three", stop=["two"], max_completion_tokens=64)
    cut = await chat(sdk, "echo: one two three", max_tokens=1)
    assert [(a.choices[0].message.content, a.choices[0].finish_reason) for a in (stopped, cut)] == [
        ("one ", "stop"),
        ("one ", "length"),
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices_differ(sdk, stream):
    """`n` answers to one prompt, which is counted once."""
    answer = await chat(
        sdk, "hello", n=3, stream=stream, **({"stream_options": {"include_usage": True}} if stream else {})
    )
    if stream:
        chunks = [c async for c in answer]
        texts = [
            "".join(c.delta.content or "" for k in chunks for c in k.choices if c.index == i)
            for i in range(3)
        ]
        usage = chunks[-1].usage
    else:
        texts, usage = [c.message.content for c in answer.choices], answer.usage
    assert len(set(texts)) == 3
    assert usage.completion_tokens == 24
    assert usage.prompt_tokens == (await chat(sdk, "hello")).usage.prompt_tokens


async def test_the_next_turn_of_a_conversation_is_cached(sdk):
    """Prompt and answer of the first turn are read from the cache in the second; another adapter shares nothing."""
    history = user("tell me", system="x" * 1_000)
    first = await sdk.chat.completions.create(model=MODEL, messages=history, max_tokens=64)
    history += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "go on"},
    ]
    second = await sdk.chat.completions.create(model=MODEL, messages=history, max_tokens=8)
    other = await sdk.chat.completions.create(model=ADAPTER, messages=history, max_tokens=8)
    whole_first = first.usage.prompt_tokens + first.usage.completion_tokens
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens >= whole_first - 32
    assert other.usage.prompt_tokens_details.cached_tokens == 0


async def test_a_cache_salt_keeps_tenants_apart(sdk):
    """With the `cache_salt` of vLLM."""
    text = "y" * 400
    await chat(sdk, text, extra_body={"cache_salt": "one"})
    hits = [
        (await chat(sdk, text, extra_body={"cache_salt": s})).usage.prompt_tokens_details.cached_tokens
        for s in ("two", "one")
    ]
    assert hits[0] == 0 < hits[1]


TOOL = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look_up"}}])
async def test_a_required_tool_is_called_with_the_answer(sdk, choice):
    """The answer is the call's argument `text`, so that a filter can be shown arguments."""
    answer = await chat(sdk, 'echo: say "x"', tools=[TOOL], tool_choice=choice, max_tokens=64)
    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("look_up", '{"text":"say \\"x\\""}')
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_a_streamed_tool_call_has_the_same_arguments(sdk):
    """Cut into tokens, whole in the end."""
    stream = await chat(
        sdk, 'echo: say "x"', tools=[TOOL], tool_choice="required", stream=True, max_tokens=64
    )
    calls = [call async for chunk in stream for c in chunk.choices for call in c.delta.tool_calls or ()]
    assert calls[0].function.name == "look_up"
    assert "".join(c.function.arguments for c in calls) == '{"text":"say \\"x\\""}'


async def test_completions_take_texts_and_token_ids(sdk, server):
    """One choice per prompt; ids from /tokenize are the same prompt as their text."""
    answer = await sdk.completions.create(model=MODEL, prompt=["echo: a", "echo: b"], max_tokens=4)
    assert [c.text for c in answer.choices] == ["a", "b"]
    stream = await sdk.completions.create(model=MODEL, prompt="echo: one two", max_tokens=4, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream if chunk.choices]) == "one two"
    text = "sixteen letters!" * 20
    ids = (await sdk.post("../tokenize", body={"prompt": text}, cast_to=object))["tokens"]
    await sdk.completions.create(model=MODEL, prompt=text, max_tokens=1)
    again = await sdk.completions.create(model=MODEL, prompt=ids, max_tokens=1)
    assert again.usage.prompt_tokens == len(ids) == 80
    assert again.usage.prompt_tokens_details.cached_tokens == 64


async def test_embeddings_are_deterministic_in_both_encodings(sdk):
    """The client asks for base64 unless told otherwise."""
    packed = await sdk.embeddings.create(model=MODEL, input=["a", "b"])
    plain = await sdk.embeddings.create(model=MODEL, input="a", encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.data[1].embedding != packed.data[0].embedding
    assert len((await sdk.embeddings.create(model=MODEL, input=[1, 2], dimensions=5)).data[0].embedding) == 5


async def test_models_are_listed_with_their_adapters(sdk):
    """An adapter names its parent."""
    cards = {m.id: m for m in (await sdk.models.list()).data}
    assert set(cards) == {MODEL, ADAPTER}
    assert cards[ADAPTER].parent == MODEL


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_are_spoken(sdk, stream):
    """Plain, and as named events that end with the whole response."""
    answer = await sdk.responses.create(
        model=MODEL, input="echo: one two", instructions="Be terse.", stream=stream
    )
    if stream:
        events = [event async for event in answer]
        assert [e.sequence_number for e in events] == list(range(len(events)))
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "one two"
        assert events[-1].type == "response.completed"
        answer = events[-1].response
    assert (answer.output_text, answer.status, answer.usage.output_tokens) == ("one two", "completed", 2)


async def test_responses_take_items_and_say_when_they_are_cut(sdk):
    """Content parts, and the status of a limit."""
    parts = [{"type": "input_text", "text": "echo: one two"}]
    answer = await sdk.responses.create(
        model=MODEL, input=[{"role": "user", "content": parts}], max_output_tokens=1
    )
    assert (answer.output_text, answer.status) == ("one ", "incomplete")


async def test_messages_are_spoken(sdk):
    """Anthropic's dialect: cached tokens are not input tokens."""
    ask = {
        "model": MODEL,
        "max_tokens": 64,
        "system": "z" * 400,
        "messages": [{"role": "user", "content": "echo: one two"}],
    }
    await sdk.post("/messages", body=ask, cast_to=object)
    answer = await sdk.post("/messages", body=ask, cast_to=object)
    assert answer["content"] == [{"type": "text", "text": "one two"}]
    assert answer["stop_reason"] == "end_turn"
    usage = answer["usage"]
    assert usage["cache_read_input_tokens"] == 112
    assert 0 < usage["input_tokens"] < 16


async def test_an_unknown_model_is_a_404_that_names_it(sdk):
    """In vLLM's form."""
    with pytest.raises(openai.NotFoundError, match="no-such-model") as caught:
        await chat(sdk, "x", model="no-such-model")
    assert caught.value.body == {
        "message": "The model `no-such-model` does not exist.",
        "type": "NotFoundError",
        "param": "model",
        "code": 404,
    }


async def test_a_prompt_longer_than_the_context_is_a_400(sdk):
    """It could never run, and its answer takes no memory first."""
    with pytest.raises(openai.BadRequestError, match="maximum context length is 2097152 tokens"):
        await chat(sdk, "x", max_tokens=1 << 50)


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"max_tokens": -1}, {"n": 0}, {"n": 1_000_000}])
async def test_numbers_out_of_range_are_a_400(sdk, options):
    """As vLLM refuses them."""
    with pytest.raises(openai.BadRequestError, match="must be"):
        await chat(sdk, "x", **options)
