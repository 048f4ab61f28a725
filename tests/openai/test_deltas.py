from __future__ import annotations

import pytest

from services.openai.deltas import Form, read
from services.openai.texts import Kind


def the(**fields):
    return fields


def shape(document):
    reading = read(document)
    return reading.form, {text.key: text.value for text in reading.deltas}, reading.closes


def test_a_chat_delta_is_named_by_choice_field_and_tool():
    """Equal keys over events mean the same text, wherever it stands in the list."""
    delta = {
        "role": "assistant",
        "content": "a",
        "tool_calls": [{"index": 2, "function": {"arguments": "{"}}],
    }
    document = {"choices": [{"index": 1, "delta": delta, "finish_reason": None}]}
    assert shape(document) == (
        Form.CHAT,
        {
            ("choices", 1, "delta", "content"): "a",
            ("choices", 1, "delta", "tool_calls", 2, "function", "arguments"): "{",
        },
        (("choices", 1, "delta", "tool_calls", 2, "function", "name"),),
    )


@pytest.mark.parametrize(
    "call", [{"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, {"function_call": {"name": "f"}}]
)
def test_a_function_name_may_go_on_until_its_arguments_begin(call):
    """A server may split it; the arguments end it, as above."""
    reading = read(the(choices=[{"index": 0, "delta": call}]))
    assert ([text.value for text in reading.deltas], reading.wholes) == (["f"], ())


def test_a_key_inside_a_delta_is_whole():
    """Nothing can go on with it."""
    reading = read(the(choices=[{"index": 0, "delta": {"odd": "x"}}]))
    assert [text.value for text in reading.wholes] == ["odd"]


@pytest.mark.parametrize(
    ("document", "form", "closes"),
    [
        ({"choices": [{"index": 3, "delta": {}, "finish_reason": "stop"}]}, Form.CHAT, (("choices", 3),)),
        ({"object": "text_completion", "choices": [{"index": 0, "text": "", "finish_reason": "length"}]}, Form.COMPLETIONS, (("choices", 0),)),
        ({"type": "content_block_stop", "index": 1}, Form.MESSAGES, (("block", 1),)),
        ({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, Form.MESSAGES, ((),)),
        ({"type": "response.output_text.done", "output_index": 1, "content_index": 2, "text": "x"}, Form.RESPONSES, (("response.output_text", 1, 2),)),
        ({"type": "response.completed", "response": {}}, Form.RESPONSES, ((),)),
        ({"what": "else"}, None, ()),
        ([], None, ()),
    ],
)  # fmt: skip
def test_an_event_says_which_texts_end_with_it(document, form, closes):
    """Held text must leave then at the latest."""
    reading = read(document)
    assert (reading.form, reading.closes) == (form, closes)


def test_an_anthropic_block_is_one_text_from_its_start():
    """`content_block_start` may carry the first piece."""
    start = {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "a"}}
    more = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "b"}}
    assert [shape(event)[1] for event in (start, more)] == [
        {("block", 1, "text"): "a"},
        {("block", 1, "text"): "b"},
    ]


def test_streamed_arguments_of_the_responses_dialect_are_json():
    """The kind decides how a mask is written into them."""
    (delta,) = read(
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{"}
    ).deltas
    assert (delta.kind, delta.key) == (Kind.ARGUMENTS, ("response.function_call_arguments", 0, 0))


def test_texts_of_other_events_are_whole():
    """Nothing of an event that nobody knows goes unseen."""
    reading = read({"type": "response.output_item.done", "item": {"content": [{"text": "a"}], "new": "b"}})
    assert [text.value for text in reading.wholes] == ["a", "new", "b"]
