"""Proof that no string of a document escapes the walk: each is scanned, exempt by name or unscannable, exactly once."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.openai.deltas import read
from services.openai.texts import KeyOf, Kind, walk, weight

WORD = st.text(string.ascii_letters + " é😀/:\u200b", max_size=12) | st.sampled_from(
    [
        "user",
        "data:image/png;base64,AAAA",
        "https://a.example/b?c=d",
        "x" * 70,
        '{"a":"b"}',
        "4111111111111111",
    ]
)
SCALAR = WORD | st.integers(0, 10**12) | st.floats(0, 1) | st.booleans() | st.none()
NAME = st.sampled_from(
    [
        "role", "type", "id", "content", "text", "name", "input", "arguments", "logprobs", "signature", "data", "url",
        "image_url", "next_year", "metadata", "tokens", "b64_json", "encrypted_content", "file_id", "model", "index",
    ]
)  # fmt: skip
ANY = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=4),
    max_leaves=12,
)


def some(**fields):
    """Return objects with `fields`, none of them needed, and now and then one that nobody expects."""
    return st.builds(lambda known, more: more | known, st.fixed_dictionaries({}, optional=fields), EXTRA)


EXTRA = st.dictionaries(NAME | WORD, ANY, max_size=1)
URL = st.sampled_from(["https://a.example/x.png", "data:image/png;base64,QUJD", "file-1"])
PART = st.one_of(
    some(type=st.just("text"), text=WORD),
    some(type=st.just("input_text"), text=WORD),
    some(type=st.just("image_url"), image_url=some(url=URL, detail=WORD) | URL),
    some(type=st.just("input_audio"), input_audio=some(data=WORD, format=WORD)),
    some(type=st.just("file"), file=some(file_id=WORD, file_data=WORD, filename=WORD)),
    some(type=st.just("image"), source=some(type=st.just("base64"), media_type=WORD, data=WORD)),
    some(type=st.just("document"), source=some(type=st.just("url"), url=URL), title=WORD),
    some(type=st.just("tool_use"), id=WORD, name=WORD, input=ANY),
    some(
        type=st.just("tool_result"),
        tool_use_id=WORD,
        content=WORD | st.lists(some(type=st.just("text"), text=WORD)),
    ),
    some(type=st.just("thinking"), thinking=WORD, signature=WORD),
    some(type=st.just("redacted_thinking"), data=WORD),
    some(type=st.just("refusal"), refusal=WORD),
)
CONTENT = WORD | st.lists(PART, max_size=3) | st.none()
CALL = some(
    id=WORD, type=st.just("function"), index=st.integers(0, 3), function=some(name=WORD, arguments=WORD)
)
MESSAGE = some(
    role=st.sampled_from(["user", "assistant", "tool", "system", "sneaky role"]), name=WORD, content=CONTENT,
    tool_calls=st.lists(CALL, max_size=2), tool_call_id=WORD, reasoning_content=WORD, refusal=WORD,
    function_call=some(name=WORD, arguments=WORD),
)  # fmt: skip
TOOL = some(
    type=st.just("function"), function=some(name=WORD, description=WORD, parameters=ANY), input_schema=ANY
)
LOGPROBS = some(content=st.lists(some(token=WORD, top_logprobs=ANY), max_size=2)) | st.none()
TOKENS = st.lists(st.integers(0, 10**5), max_size=4)
OUTPUT = some(
    type=st.sampled_from(["message", "reasoning", "function_call", "function_call_output"]), role=WORD, content=CONTENT,
    name=WORD, arguments=WORD, output=WORD, call_id=WORD, summary=st.lists(PART, max_size=2), encrypted_content=WORD,
)  # fmt: skip

DOCUMENTS = {
    "chat request": some(
        model=WORD, messages=st.lists(MESSAGE, max_size=3), tools=st.lists(TOOL, max_size=2), functions=ANY,
        prediction=some(type=st.just("content"), content=CONTENT), response_format=some(json_schema=ANY), user=WORD,
        metadata=ANY, stop=st.lists(WORD, max_size=2), logprobs=st.booleans(), tool_choice=ANY,
    ),
    "chat answer": some(
        id=WORD, object=WORD, model=WORD,
        choices=st.lists(some(index=st.integers(0, 3), message=MESSAGE, finish_reason=WORD, logprobs=LOGPROBS)),
    ),
    "chat event": some(
        id=WORD, choices=st.lists(some(index=st.integers(0, 3), delta=MESSAGE, finish_reason=WORD, logprobs=LOGPROBS))
    ),
    "completions request": some(model=WORD, prompt=WORD | st.lists(WORD | TOKENS, max_size=3) | TOKENS, suffix=WORD),
    "completions answer": some(id=WORD, choices=st.lists(some(index=st.integers(0, 3), text=WORD, logprobs=LOGPROBS))),
    "responses request": some(
        model=WORD, instructions=WORD, input=WORD | st.lists(OUTPUT | MESSAGE, max_size=3), text=some(format=ANY),
        tools=st.lists(TOOL, max_size=2), previous_response_id=WORD, prompt=some(id=WORD, variables=ANY),
    ),
    "responses answer": some(id=WORD, output=st.lists(OUTPUT, max_size=3), instructions=WORD, error=ANY),
    "responses event": some(
        type=st.sampled_from(["response.output_text.delta", "response.completed", "response.output_item.done"]),
        delta=WORD, item=OUTPUT, response=some(output=st.lists(OUTPUT, max_size=2)), text=WORD, item_id=WORD,
    ),
    "messages request": some(
        model=WORD, system=WORD | st.lists(PART, max_size=2), messages=st.lists(MESSAGE, max_size=3), metadata=ANY,
        tools=st.lists(TOOL, max_size=2), stop_sequences=st.lists(WORD, max_size=2),
    ),
    "messages answer": some(id=WORD, type=st.just("message"), role=WORD, content=st.lists(PART, max_size=3)),
    "messages event": some(
        type=st.sampled_from(["content_block_start", "content_block_delta", "message_start"]), content_block=PART,
        delta=some(type=WORD, text=WORD, partial_json=WORD, thinking=WORD, signature=WORD), message=ANY,
    ),
    "embeddings request": some(model=WORD, input=WORD | st.lists(WORD | TOKENS, max_size=3) | TOKENS, user=WORD),
    "embeddings answer": some(data=st.lists(some(index=st.integers(0, 3), embedding=st.lists(st.floats(0, 1)) | WORD))),
    "anything": ANY,
}  # fmt: skip


def strings(value, path=()):
    """Yield path and value of every string that is not empty."""
    if isinstance(value, str) and value:
        yield path, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from strings(item, (*path, name))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from strings(item, (*path, at))


def check(document, texts):
    keys = [text for text in texts if text.path and isinstance(text.path[-1], KeyOf)]
    values = [text for text in texts if text.kind is not Kind.NUMBER and text not in keys]
    said = [
        text for text in values if text.value or text.size
    ]  # a picture's address is followed by the picture
    for path, value in strings(document):
        at = [text for text in said if text.path == path[: len(text.path)] and text.kind is not Kind.TOKENS]
        assert len(at) == 1, (path, value, at)
        assert at[0].value == value if at[0].scannable else not at[0].value
    scanned = sum(weight(text.value) for text in values if text.scannable)
    left = sum(text.size for text in values if not text.scannable and text.kind is not Kind.TOKENS)
    assert scanned + left == weight(document)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_every_string_is_classed_once_and_the_bytes_add_up(kind):
    """Scanned, exempt as a word of the protocol, or unscannable with its reason: nothing is left, nothing twice."""

    @settings(max_examples=60, deadline=None)
    @given(DOCUMENTS[kind])
    def holds(document):
        check(document, walk(document, "assistant", labels=True))

    holds()


@pytest.mark.parametrize("kind", ["chat event", "completions answer", "responses event", "messages event"])
def test_an_event_reads_as_the_texts_of_its_document(kind):
    """Pieces and wholes of a stream's event are together what the walk finds."""

    @settings(max_examples=60, deadline=None)
    @given(DOCUMENTS[kind])
    def holds(document):
        reading = read(document)
        paths = [text.path for text in (*reading.deltas, *reading.wholes)]
        assert sorted(paths, key=repr) == sorted(
            (text.path for text in walk(document, "assistant")), key=repr
        )

    holds()
