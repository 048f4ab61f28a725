from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.openai.edits import locate, replace_values
from services.openai.texts import Json, KeyOf, Path, walk

BODY = b' {"a" : 1e5,\n"m":[ {"x":"o\\u0041\\"]{ld", "y":9007199254740993}, "z" ],"e":{},"m2":[[],[3,"q"]]} '


def test_one_value_changes_and_no_other_byte():
    """Spacing, number forms and escapes elsewhere stay."""
    assert replace_values(BODY, {("m", 0, "x"): "né\n"}) == BODY.replace(
        b'"o\\u0041\\"]{ld"', '"né\\n"'.encode()
    )


def test_values_of_every_kind_can_change():
    """Numbers, objects, lists and keys have spans too."""
    edits: dict[Path, Json] = {
        ("a",): "s",
        ("m", 0, "y"): None,
        ("e",): [],
        ("m2", 1): 0,
        ("m", 0, KeyOf("x")): "w",
    }
    assert json.loads(replace_values(BODY, edits)) == {
        "a": "s", "m": [{"w": 'oA"]{ld', "y": None}, "z"], "e": [], "m2": [[], 0],
    }  # fmt: skip


def test_a_missing_path_is_an_error():
    """A redaction that finds no place must not pass for done."""
    with pytest.raises(LookupError):
        locate(BODY, {("nope",): 0})


def test_half_a_surrogate_pair_stays_an_escape():
    """UTF-8 cannot carry it."""
    assert replace_values(b'{"a":"x"}', {("a",): "\ud83d"}) == b'{"a":"\\ud83d"}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_every_text_of_any_document_can_be_replaced(document, compact):
    """The walk's paths and the spans agree."""
    body = json.dumps(document, ensure_ascii=compact, indent=None if compact else 1).encode()
    texts = [text for text in walk(document) if text.scannable]
    values = {text.path: "X" for text in texts if not (text.path and isinstance(text.path[-1], KeyOf))}
    after = json.loads(replace_values(body, values))
    assert all(text.value == "X" for text in walk(after) if text.path in values)
