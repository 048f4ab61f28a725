from __future__ import annotations

import json

import pytest

from services.openai.texts import KeyOf, Kind, Undecodable, decode, walk


def the(**fields):
    return fields


def seen(document, role=""):
    return {(text.path[-1], text.role, text.kind, text.value) for text in walk(document, role)}


def test_a_chat_request_shows_every_text_with_its_role():
    """Strings, parts, names, tool calls, tool results, schemas: all are found."""
    document = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "name": "ann", "content": [{"type": "text", "text": "look"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "call-1", "content": "42"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "does"}}],
        "metadata": {"note": "hidden"},
    }
    found = seen(document)
    assert found >= {
        ("content", "system", Kind.CONTENT, "be kind"),
        ("name", "user", Kind.NAME, "ann"),
        ("text", "user", Kind.CONTENT, "look"),
        ("name", "assistant", Kind.NAME, "f"),
        ("arguments", "assistant", Kind.ARGUMENTS, '{"a":1}'),
        ("content", "tool", Kind.RESULT, "42"),
        ("tool_call_id", "tool", Kind.OTHER, "call-1"),
        ("description", "", Kind.SCHEMA, "does"),
        ("note", "", Kind.OTHER, "hidden"),
    }
    assert not any(value == "m" for *_, value in found)


def test_every_choice_of_an_answer_is_walked():
    """Reasoning, refusals and every index of n>1 are texts too."""
    choices = [
        {"index": 1, "message": {"role": "assistant", "content": "b", "reasoning_content": "r"}},
        {"index": 0, "message": {"role": "assistant", "refusal": "no"}},
    ]
    texts = walk(the(id="x", choices=choices), "assistant")
    assert [(text.key, text.kind, text.value) for text in texts] == [
        (("choices", 1, "message", "content"), Kind.CONTENT, "b"),
        (("choices", 1, "message", "reasoning_content"), Kind.REASONING, "r"),
        (("choices", 0, "message", "refusal"), Kind.REFUSAL, "no"),
    ]
    assert texts[0].path == ("choices", 0, "message", "content")


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ({"prompt": "p"}, "p"),
        ({"prompt": ["a", "p"]}, "p"),
        ({"suffix": "p"}, "p"),
        ({"input": "p"}, "p"),
        ({"input": ["p"]}, "p"),
        ({"instructions": "p"}, "p"),
        ({"system": [{"type": "text", "text": "p"}]}, "p"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "p"}]}]}, "p"),
        ({"output": [{"type": "message", "content": [{"type": "output_text", "text": "p"}]}]}, "p"),
        ({"content": [{"type": "thinking", "thinking": "p"}]}, "p"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "p"}]}]}, "p"),
        ({"prediction": {"type": "content", "content": "p"}}, "p"),
        ({"text": {"format": {"schema": {"description": "p"}}}}, "p"),
        ({"a_field_of_next_year": {"deep": ["p"]}}, "p"),
        ({"metadata": {"id": {"status": "p"}}}, "p"),
    ],
)
def test_no_dialect_hides_a_text(document, value):
    """Completions, embeddings, responses, messages and fields that nobody knows yet."""
    assert value in {text.value for text in walk(document) if text.scannable}


def test_tool_input_as_an_object_is_walked_with_its_keys():
    """Field names mean nothing inside a tool's arguments, and a key can carry text."""
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"id": "x", "secret key": 4111111111111111}}
    found = {(text.kind, text.value) for text in walk(the(content=[block]))}
    assert {(Kind.ARGUMENTS, "x"), (Kind.NAME, "secret key"), (Kind.NUMBER, "4111111111111111")} <= found
    assert any(text.path[-1] == KeyOf("secret key") for text in walk(the(content=[block])))


@pytest.mark.parametrize(
    ("document", "kind", "size"),
    [
        ({"prompt": [1, 2, 3]}, Kind.TOKENS, 3),
        ({"prompt": [[1, 2], [3]]}, Kind.TOKENS, 2),
        ({"input": [[7]]}, Kind.TOKENS, 1),
        (
            {"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            Kind.MEDIA,
            26,
        ),
        ({"content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}, Kind.MEDIA, 0),
        ({"content": [{"type": "image", "source": {"type": "base64", "data": "AAAA"}}]}, Kind.MEDIA, 4),
        ({"content": [{"type": "input_audio", "input_audio": {"data": "AA"}}]}, Kind.MEDIA, 2),
        ({"output": [{"type": "reasoning", "encrypted_content": "AA"}]}, Kind.ENCODED, 2),
        ({"choices": [{"logprobs": {"content": [{"token": "ä"}]}}]}, Kind.LOGPROBS, 2),
    ],
)
def test_what_is_no_text_is_named_and_never_skipped(document, kind, size):
    """Token ids, media and encoded content are yielded as unscannable."""
    assert (kind, size) in {(text.kind, text.size) for text in walk(document) if not text.scannable}


def test_asking_for_log_probabilities_is_no_text():
    """A number is an option; only what an answer says is opaque."""
    assert walk(the(logprobs=True, top_logprobs=5)) == []


@pytest.mark.parametrize(
    "document",
    [
        {"messages": [{"role": "assistant. Now obey: p", "content": ""}]},
        {"id": "p" * 65},
        {"input": [0.5, "p"]},
    ],
)
def test_a_field_of_the_protocol_is_no_hiding_place(document):
    """A role that is none, an id as long as a message, a vector with a word in it: all are texts."""
    assert any("p" in text.value for text in walk(document))


def test_the_address_of_an_image_is_a_text():
    """Data can leave in a link."""
    part = {"type": "image_url", "image_url": {"url": "https://x/?q=secret"}}
    assert (Kind.LINK, "https://x/?q=secret") in {
        (text.kind, text.value) for text in walk(the(content=[part]))
    }


def test_embeddings_cost_nothing():
    """A vector is no text."""
    assert walk(the(data=[{"index": 0, "embedding": [0.25] * 1000}])) == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"a":1,"a":2}',
        b'{"x":{"a":1,"a":2}}',
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        '{"a":"é"}'.encode("utf-16"),
        b'{"a":NaN}',
        b"",
        b"[" * 100_000,
    ],
)
def test_a_document_that_two_readers_could_read_differently_is_refused(body):
    """Duplicate keys, other charsets, byte-order marks, NaN and absurd depth are not JSON here."""
    with pytest.raises(Undecodable):
        decode(body)


def test_depth_is_bounded_in_the_walk_too():
    """Nesting that the decoder still takes is refused before it costs a stack."""
    with pytest.raises(Undecodable):
        walk(decode(b"[" * 500 + b"]" * 500))


def test_half_a_surrogate_pair_is_text():
    """Python's servers accept it, so it must be seen."""
    assert walk(decode(json.dumps({"prompt": "\ud83d"}).encode()))[0].value == "\ud83d"
