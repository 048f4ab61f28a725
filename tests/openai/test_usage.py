from __future__ import annotations

import json

import pytest

from services.openai.usage import Usage, UsageMeter, usage_of

CHAT = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 8},
}
RESPONSES = {
    "input_tokens": 10,
    "output_tokens": 5,
    "input_tokens_details": {"cached_tokens": 8},
    "total_tokens": 15,
}
ANTHROPIC = {
    "input_tokens": 2,
    "output_tokens": 5,
    "cache_read_input_tokens": 8,
    "cache_creation_input_tokens": 3,
}


def data(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        ({"choices": [], "usage": CHAT}, Usage(prompt=10, completion=5, cached=8)),
        ({"usage": {"prompt_tokens": 4, "total_tokens": 4}}, Usage(prompt=4)),
        ({"usage": {**CHAT, "prompt_tokens_details": None}}, Usage(prompt=10, completion=5)),
        ({"object": "response", "output": [], "usage": RESPONSES}, Usage(prompt=10, completion=5, cached=8)),
        ({"type": "message", "usage": ANTHROPIC}, Usage(prompt=13, completion=5, cached=8)),
        (
            {"type": "message", "usage": {"input_tokens": 2, "output_tokens": 1}},
            Usage(prompt=2, completion=1),
        ),
        ({"results": [], "usage": {"total_tokens": 9}}, Usage(prompt=9)),
        ({"usage": {"total_tokens": 9, "completion_tokens": 2}}, Usage(prompt=7, completion=2)),
    ],
)
def test_a_whole_answer_names_its_tokens(body, usage):
    """In every dialect's words; Anthropic's prompt includes what came from the cache."""
    assert usage_of(data(body)) == usage


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[DONE]",
        b'{"choices":[]}',
        b'{"usage":null,"choices":[]}',
        b'{"usage":{}}',
        b'{"usage":{"prompt_tokens":-1}}',
        b'{"usage":{"prompt_tokens":"ten"}}',
        b'{"usage":7}',
        b'{"usage":{"prompt_tokens":1}',
        b'{"usage":' + b"[" * 100_000,
        b'{"x":"\\"usage\\"","usage_":1}',
        b'["usage"]',
        b'{"choices":[{"usage":{"prompt_tokens":1}}]}',
    ],
)
def test_what_names_no_tokens_has_no_usage(body):
    """A broken or strange answer is not an error here."""
    assert usage_of(body) is None


def test_a_chat_stream_names_them_in_its_last_event():
    """Earlier events say null, or running totals of which the last one counts."""
    meter = UsageMeter()
    for event in (
        {"choices": [1], "usage": None},
        {"usage": {**CHAT, "completion_tokens": 1}},
        {"choices": [], "usage": CHAT},
    ):
        meter.feed(data(event))
    meter.feed(b"[DONE]")
    assert meter.usage == Usage(prompt=10, completion=5, cached=8)


def test_a_responses_stream_names_them_when_it_is_completed():
    """The count is inside the repeated response."""
    meter = UsageMeter()
    meter.feed(data({"type": "response.created", "response": {"id": "r", "usage": None}}))
    assert meter.usage is None
    meter.feed(data({"type": "response.completed", "response": {"id": "r", "usage": RESPONSES}}))
    assert meter.usage == Usage(prompt=10, completion=5, cached=8)


@pytest.mark.parametrize("last", [{"output_tokens": 5}, {"input_tokens": 2, "output_tokens": 5}])
def test_an_anthropic_stream_names_them_first_and_last(last):
    """The prompt comes with the start, the answer's total with the end, which does not undo the cached part."""
    meter = UsageMeter()
    meter.feed(
        data({"type": "message_start", "message": {"id": "m", "usage": {**ANTHROPIC, "output_tokens": 1}}})
    )
    meter.feed(data({"type": "content_block_delta", "delta": {"text": '"usage"'}}))
    meter.feed(data({"type": "message_delta", "delta": {}, "usage": last}))
    meter.feed(data({"type": "message_stop"}))
    assert meter.usage == Usage(prompt=13, completion=5, cached=8)
