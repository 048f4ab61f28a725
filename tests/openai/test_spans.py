from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.openai.errors import PeekError, Reason
from services.openai.spans import MAX_FIELDS, Fields, Span, splice, top_level

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.just("model"), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT | st.sampled_from(["model", "messages"]), VALUES, max_size=6)
STYLES = st.sampled_from(
    [
        {},
        {"ensure_ascii": False},
        {"indent": 2},
        {"separators": (",", ":")},
        {"indent": "\t", "separators": (" ,\r\n", " : ")},
    ]
)


def written(value: object, style: dict[str, Any], space: str = "") -> bytes:
    return (space + json.dumps(value, **style) + space).encode()


@given(OBJECTS, STYLES, st.sampled_from(["", " ", "\r\n\t"]))
def test_top_level_agrees_with_the_standard_library(value, style, space):
    """Names come decoded and in order, and each span holds exactly its value."""
    body = written(value, style, space)
    found = top_level(body)
    assert [field.name for field in found] == list(value)
    assert [json.loads(body[field.start : field.end]) for field in found] == list(value.values())
    assert all(body[field.start : field.end].strip() == body[field.start : field.end] for field in found)


def model_span(body: bytes) -> Span:
    return Fields(top_level(body)).get("model")


def replace_model(body: bytes, new: str) -> bytes:
    return splice(body, model_span(body), json.dumps(new, ensure_ascii=False).encode())


@given(OBJECTS, STYLES, TEXT, TEXT)
def test_replace_changes_the_span_of_the_model_and_nothing_else(value, style, old, new):
    """What stands before and after the value is the same bytes; a reader finds the new model."""
    value = {**value, "model": old}
    body = written(value, style)
    start, end = model_span(body)
    changed = replace_model(body, new)
    assert changed[:start] == body[:start]
    assert changed[len(changed) - (len(body) - end) :] == body[end:]
    assert json.loads(changed) == value | {"model": new}


def test_what_a_decoder_would_lose_is_kept():
    """Big integers, float spellings, escapes, space, order and unknown or repeated fields stay as written."""
    body = b'{ "z":1.50e+3 ,"id":123456789012345678901234567890,"model" :\t"a" , "x":"\\u00e9\\/", "x":-0.0,\n"n":null }\n'
    assert replace_model(body, 'b"\\é') == body.replace(b'"a"', '"b\\"\\\\é"'.encode())


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"tools":[{"model":"x"}],"model":"m"}', b'"m"'),
        (b'{"a":"model","model":"m","b":"\\"model\\":\\"x\\""}', b'"m"'),
        (b'{"\\"model":"x","model":"m"}', b'"m"'),
        (b'{"mod\\u0065l":"m"}', b'"m"'),
        (b'{"a":"\\\\","model":"m"}', b'"m"'),
        (b'{"a":{"b":[1,{"model":[]}]},"model":"m","c":"}"}', b'"m"'),
        (b'{"Model":"x","model ":"y","model":"m"}', b'"m"'),
    ],
)
def test_only_the_top_level_field_is_the_model(body, model):
    """Nested fields, values and escaped quotes that look like it are passed over; an escaped spelling is not."""
    start, end = model_span(body)
    assert body[start:end] == model


@pytest.mark.parametrize(
    ("body", "reason", "message"),
    [
        (b"", Reason.EMPTY_BODY, "body is empty, expected a JSON object"),
        (b" \r\n", Reason.EMPTY_BODY, "body is empty, expected a JSON object"),
        (b"{", Reason.INVALID_JSON, "body is not valid JSON: it ends too early, at byte 1"),
        (b'{"model":"m', Reason.INVALID_JSON, "body is not valid JSON: it ends too early, at byte 11"),
        (b'{"model":"m"} x', Reason.INVALID_JSON, "body is not valid JSON: trailing characters at byte 15"),
        (
            b'{"model":"m","a":NaN}',
            Reason.INVALID_JSON,
            "body is not valid JSON: invalid character at byte 17",
        ),
        (
            b'{"model":"m","a":[-Infinity]}',
            Reason.INVALID_JSON,
            "body is not valid JSON: invalid character at byte 19",
        ),
        (b'{"a":[01]}', Reason.INVALID_JSON, "body is not valid JSON: invalid number at byte 7"),
        (b'{"a":1,}', Reason.INVALID_JSON, "body is not valid JSON: trailing comma in object at byte 7"),
        (b'{"a":"\n"}', Reason.INVALID_JSON, "body is not valid JSON: invalid character at byte 6"),
        (b"\xef\xbb\xbf{}", Reason.INVALID_JSON, "body is not valid JSON: invalid character at byte 0"),
        (b'{"a":"\\ud800"}', Reason.INVALID_JSON, "body is not valid JSON: half a surrogate pair at byte 6"),
        (b"[]", Reason.NOT_AN_OBJECT, "body must be a JSON object, not array"),
        (b"null", Reason.NOT_AN_OBJECT, "body must be a JSON object, not null"),
        (b"[" * 100_000, Reason.NOT_AN_OBJECT, "body must be a JSON object, not array"),
        (b'{"a":' + b"[" * 100_000, Reason.TOO_DEEP, "body is nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, Reason.TOO_DEEP, "body is nested too deeply"),
        (b'{"model":"\xff"}', Reason.NOT_UTF8, "body is not UTF-8: invalid start byte at byte 10"),
        (
            b'{"model":"m","a":["\xc0\x80"]}',
            Reason.NOT_UTF8,
            "body is not UTF-8: invalid start byte at byte 19",
        ),
        (b'{"\xed\xa0\x80":1}', Reason.NOT_UTF8, "body is not UTF-8: invalid continuation byte at byte 2"),
        (
            '{"model":"m"}'.encode("utf-16"),
            Reason.NOT_UTF8,
            "body is not UTF-8: invalid start byte at byte 0",
        ),
    ],
)
def test_what_is_not_one_json_object_is_refused_with_the_place(body, reason, message):
    """The message says what is wrong and at which byte, so that a person can mend it."""
    with pytest.raises(PeekError) as caught:
        top_level(body)
    assert (caught.value.reason, caught.value.message) == (reason, message)


def test_every_truncation_of_a_body_is_refused():
    """No prefix of an object is an object."""
    body = (
        '{"model":"mé\\u00e9","messages":[{"role":"user","content":"a\\n\\"b"}],"n":-1.5e3,"t":true}'.encode()
    )
    top_level(body)
    for cut in range(len(body)):
        with pytest.raises(PeekError):
            top_level(body[:cut])


def test_the_number_of_fields_is_bounded():
    """A body of nothing but keys is given up on, and not after building millions of them."""
    fields = [b'"%d":0' % number for number in range(MAX_FIELDS + 1)]
    assert len(top_level(b"{" + b",".join(fields[:-1]) + b"}")) == MAX_FIELDS
    with pytest.raises(PeekError) as caught:
        top_level(b"{" + b",".join(fields))
    assert caught.value.reason is Reason.TOO_MANY_FIELDS


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"\\u006dodel":1,"x":2,"\\u006Dodel":3}',
    ],
)
def test_a_repeated_model_is_refused_however_it_is_spelled(body):
    """Two readers might choose differently."""
    with pytest.raises(PeekError) as caught:
        model_span(body)
    assert (caught.value.reason, caught.value.param) == (Reason.DUPLICATE_FIELD, "model")


def test_a_repeated_field_matters_only_to_who_asks_for_it():
    """Unknown fields may repeat; the gateway reads nothing out of them."""
    fields = Fields(top_level(b'{"x":1,"x":2,"y":3}'))
    assert fields.find("y") == (17, 18)
    assert fields.find("z") is None
    with pytest.raises(PeekError):
        fields.find("x")
