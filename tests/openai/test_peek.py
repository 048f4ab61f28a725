from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.openai.dialects import Dialect
from services.openai.errors import PeekError, Reason
from services.openai.peek import SEPARATOR, field_text, peek, peek_unknown, rewrite


def body_of(**fields: object) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def prompt_of(body: bytes, dialect: Dialect = Dialect.CHAT) -> bytes:
    return b"".join(peek(body, dialect).prompt)


CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def test_the_facts_of_a_request_are_read():
    """Model, stream flag, limit, salt and user come out of one pass."""
    body = body_of(stream=True, max_tokens=7, cache_salt="s\n", user="u", messages=[1])
    seen = peek(body, Dialect.CHAT)
    assert (seen.model, seen.stream, seen.max_tokens, seen.cache_salt, seen.user) == (
        "m",
        True,
        7,
        "s\n",
        "u",
    )
    assert body[slice(*seen.span)] == b'"m"'
    assert not seen.form


def test_what_is_not_given_has_its_neutral_value():
    """A plain request streams nothing, sets no limit and shares its cache."""
    seen = peek(CHAT, Dialect.CHAT)
    assert (seen.stream, seen.max_tokens, seen.cache_salt, seen.user) == (False, 0, "", "")


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"max_output_tokens": 8}, 8),
        ({"max_tokens": None}, 0),
        ({"max_tokens": -1}, 0),
        ({"max_tokens": 1.5}, 0),
        ({"max_tokens": 10**30}, 0),
        ({"max_tokens": []}, 0),
        ({"max_tokens": "12"}, 12),
    ],
)
def test_the_limit_is_read_under_every_name(fields, limit):
    """What is no sensible number counts as none; the server has the word on it."""
    assert peek(body_of(messages=[], **fields), Dialect.CHAT).max_tokens == limit


@pytest.mark.parametrize(
    ("value", "stream"),
    [
        (True, True),
        (False, False),
        (None, False),
        ("true", True),
        (1, True),
        (0, False),
        ("x" * 99, False),
        ([], False),
    ],
)
def test_the_stream_flag_is_read_as_leniently_as_servers_do(value, stream):
    """A strange type is not the gateway's to refuse."""
    assert peek(body_of(messages=[], stream=value), Dialect.CHAT).stream is stream


def test_the_safety_identifier_wins_over_the_user():
    """It is OpenAI's newer name for the same thing."""
    assert peek(body_of(messages=[], user="u", safety_identifier="s"), Dialect.CHAT).user == "s"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"messages":[]}', Reason.FIELD_MISSING),
        (b'{"model":"","messages":[]}', Reason.FIELD_EMPTY),
        (b'{"model":" \\n","messages":[]}', Reason.FIELD_EMPTY),
        (b'{"model":7,"messages":[]}', Reason.WRONG_TYPE),
        (b'{"model":null,"messages":[]}', Reason.WRONG_TYPE),
        (b'{"model":["m"],"messages":[]}', Reason.WRONG_TYPE),
        (b'{"model":"a","model":"a","messages":[]}', Reason.DUPLICATE_FIELD),
    ],
)
def test_a_body_without_one_plain_model_is_refused(body, reason):
    """The error names the field."""
    with pytest.raises(PeekError) as caught:
        peek(body, Dialect.CHAT)
    assert (caught.value.reason, caught.value.param) == (reason, "model")


@pytest.mark.parametrize("name", ["messages", "stream", "max_tokens", "cache_salt", "user", "tools"])
def test_every_field_that_decides_something_is_given_once(name):
    """A second one could show another request to the next reader."""
    value = json.dumps([1])
    body = f'{{"model":"m","messages":[1],"{name}":{value},"{name}":{value}}}'.encode()
    with pytest.raises(PeekError) as caught:
        peek(body, Dialect.CHAT)
    assert (caught.value.reason, caught.value.param) == (Reason.DUPLICATE_FIELD, name)


@pytest.mark.parametrize(
    ("dialect", "missing"),
    [
        (Dialect.CHAT, "messages"),
        (Dialect.COMPLETIONS, "prompt"),
        (Dialect.EMBEDDINGS, "input"),
        (Dialect.RESPONSES, "input"),
        (Dialect.MESSAGES, "messages"),
        (Dialect.RERANK, "documents"),
        (Dialect.TOKENIZE, "prompt"),
        (Dialect.DETOKENIZE, "tokens"),
        (Dialect.IMAGES, "prompt"),
        (Dialect.SPEECH, "input"),
    ],
)
def test_a_request_needs_content(dialect, missing):
    """Absent and null are both missing."""
    for body in (b'{"model":"m"}', body_of(**{missing: None})):
        with pytest.raises(PeekError) as caught:
            peek(body, dialect)
        assert (caught.value.reason, caught.value.param) == (Reason.FIELD_MISSING, missing)


@pytest.mark.parametrize(
    ("dialect", "fields", "prompt"),
    [
        (Dialect.CHAT, {"messages": [1, 2]}, b"1, 2"),
        (Dialect.CHAT, {"messages": [1], "tools": [9]}, b"9\x001"),
        (Dialect.CHAT, {"messages": [1], "tools": []}, b"1"),
        (Dialect.COMPLETIONS, {"prompt": 'a "b"'}, b'a \\"b\\"'),
        (Dialect.COMPLETIONS, {"prompt": [1, 2]}, b"1, 2"),
        (Dialect.COMPLETIONS, {"prompt": " a "}, b" a "),
        (Dialect.COMPLETIONS, {"prompt_embeds": "x"}, b""),
        (Dialect.MESSAGES, {"messages": [3], "system": "s", "tools": [1]}, b"1\x00s\x003"),
        (Dialect.RESPONSES, {"input": "i", "instructions": "s", "tools": [1]}, b"1\x00s\x00i"),
        (Dialect.RESPONSES, {"previous_response_id": "r"}, b""),
        (Dialect.EMBEDDINGS, {"input": ["a", "b"]}, b'"a", "b"'),
        (Dialect.RERANK, {"documents": ["d"], "query": "q"}, b'q\x00"d"'),
        (Dialect.SCORE, {"text_1": "a", "text_2": ["b"]}, b'a\x00"b"'),
        (Dialect.CHAT, {"messages": {"not": "a list"}}, b'{"not": "a list"}'),
    ],
)
def test_the_prompt_is_its_fields_in_template_order(dialect, fields, prompt):
    """Whatever the order of the body, brackets and quotes around a field left out."""
    assert prompt_of(body_of(**fields), dialect) == prompt
    assert prompt_of(json.dumps({**dict(reversed(fields.items())), "model": "m"}).encode(), dialect) == prompt
    assert peek(body_of(**fields), dialect).prompt_bytes == len(prompt)


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=2), min_size=2, max_size=6),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
)
def test_a_growing_conversation_is_a_prefix_of_its_next_turn(messages, indent, ascii_only):
    """In every style of writing, so that all its hashes stay."""
    turns = [
        prompt_of(
            json.dumps(
                {"model": "m", "messages": messages[:n], "tools": [{}]},
                indent=indent,
                ensure_ascii=ascii_only,
            ).encode()
        )
        for n in range(1, len(messages) + 1)
    ]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(turns))
    assert all(turn.startswith(b"{}" + SEPARATOR) for turn in turns)


def test_space_at_the_end_of_a_list_is_dropped_whatever_its_length():
    """A megabyte of it costs no loop."""
    assert prompt_of(b'{"model":"m","messages":[ \n1' + b" " * 1_000_000 + b"]}") == b"1"
    assert prompt_of(b'{"model":"m","messages":[ ' + b" " * 1_000_000 + b"]}") == b""


def test_the_prompt_is_not_copied():
    """The parts are views of the body."""
    (part,) = peek(CHAT, Dialect.CHAT).prompt
    assert isinstance(part, memoryview)
    assert part.obj is CHAT


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_a_rewrite_changes_the_model_and_nothing_else(old, new):
    """The standard library reads the new model and everything else as before."""
    body = json.dumps({"a": 1.0, "model": old, "messages": [{"model": old}], "z": 10**30}).encode()
    seen = peek(body, Dialect.CHAT)
    assert seen.model == old
    assert json.loads(rewrite(body, seen, new)) == {**json.loads(body), "model": new}


FORM_TYPE = "multipart/form-data; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n\xff\r\n--b--\r\n'


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (b'{"messages":[]}', b'{"model":"new","messages":[]}'),
        (b' {\n "messages":[] }', b' {"model":"new",\n "messages":[] }'),
        (b'{"model":null,"messages":[]}', b'{"model":"new","messages":[]}'),
        (b'{"messages":[],"model" : "" }', b'{"messages":[],"model" : "new" }'),
    ],
)
def test_a_model_may_be_missing_where_something_else_names_it(body, after):
    """And is put where it belongs; every other byte stays."""
    seen = peek(body, Dialect.CHAT, model_optional=True)
    assert seen.model == ""
    assert rewrite(body, seen, "new") == after
    with pytest.raises(PeekError):
        peek(body, Dialect.CHAT)


@pytest.mark.parametrize("before", [b"", b"preamble\r\n--x\r\n"])
@pytest.mark.parametrize("padding", [b"", b" \t"])
def test_a_form_without_a_model_gets_one_as_its_first_field(before, padding):
    """Behind what precedes the first boundary."""
    body = before + FILE.replace(b"--b\r\n", b"--b" + padding + b"\r\n", 1)
    seen = peek(body, Dialect.TRANSCRIPTIONS, FORM_TYPE, model_optional=True)
    after = rewrite(body, seen, "new")
    again = peek(after, Dialect.TRANSCRIPTIONS, FORM_TYPE)
    assert again.model == "new"
    assert after.startswith(before)
    assert after.endswith(body[len(before) :])


def test_a_wrong_type_is_wrong_even_where_the_model_is_optional():
    """The server would refuse it too."""
    with pytest.raises(PeekError) as caught:
        peek(b'{"model":7,"messages":[]}', Dialect.CHAT, model_optional=True)
    assert caught.value.reason is Reason.WRONG_TYPE


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"m","x":1}', "m"),
        (b'{"x":1}', ""),
        (b"\xff", ""),
        (b"", ""),
        (b'{"model":1}', ""),
        (b"[]", ""),
    ],
)
def test_an_unknown_shape_may_name_a_model(body, model):
    """Nothing is demanded of it."""
    seen = peek_unknown(body)
    assert (seen.dialect, seen.model, seen.model_field, seen.prompt_bytes) == (
        Dialect.OTHER, model, bool(model), len(body),
    )  # fmt: skip


def test_an_unknown_shape_names_one_model():
    """Readers differ on which of two counts."""
    with pytest.raises(PeekError):
        peek_unknown(b'{"model":"a","model":"b"}')


@pytest.mark.parametrize(
    ("name", "text"), [("a", "x\u00e9"), ("b", "1.50"), ("c", '["d"]'), ("d", None), ("e", "null")]
)
def test_a_field_is_read_as_text(name, text):
    """Numbers as they are written."""
    assert field_text(b'{"a":"x\\u00e9","b":1.50,"c":["d"],"e":null}', name) == text
