from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.openai.answer_model import EventRenamer, rename

NEW = "new"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (b'{"model":"a"}', b'{"model":"new"}'),
        (
            b' { "n":1e0, "model"\n:\t"a\\u0062" , "x":"model" } ',
            b' { "n":1e0, "model"\n:\t"new" , "x":"model" } ',
        ),
        (b'{"mod\\u0065l":"a"}', b'{"mod\\u0065l":"new"}'),
        (b'{"model":"a","model":"b"}', b'{"model":"new","model":"new"}'),
        (b'{"model":null}', b'{"model":null}'),
        (b'{"model":{"model":"a"}}', b'{"model":{"model":"a"}}'),
        (b'[{"model":"a"}]', b'[{"model":"a"}]'),
        (b'{"model":"a"', b'{"model":"a"'),
        (b'{"model":"a\xff"}', b'{"model":"a\xff"}'),
        (
            b'{"type":"message_start","message":{"model":"a"}}',
            b'{"type":"message_start","message":{"model":"a"}}',
        ),
        (b"", b""),
    ],
)
def test_a_body_names_its_model_at_its_top(body, after):
    """And only there; what is not JSON passes."""
    assert rename(body, NEW) == after


@pytest.mark.parametrize(
    ("data", "after"),
    [
        ('{"type":"message_start","message":{"model":"a"}}', '{"type":"message_start","message":{"model":"new"}}'),
        ('{"response":{"id":1,"model":"a"},"type":"response.created"}',
         '{"response":{"id":1,"model":"new"},"type":"response.created"}'),
        ('{"type":"other","message":{"model":"a"}}', '{"type":"other","message":{"model":"a"}}'),
        ('{"type":"response.created","message":{"model":"a"}}', '{"type":"response.created","message":{"model":"a"}}'),
        ('{"type":"message_start","message":"model\\"a"}', '{"type":"message_start","message":"model\\"a"}'),
        ('{"type":"message_start","model":"b","message":{"x":{"model":"c"},"model":"a"}}',
         '{"type":"message_start","model":"new","message":{"x":{"model":"c"},"model":"new"}}'),
    ],
)  # fmt: skip
def test_an_event_names_its_model_where_its_dialect_does(data, after):
    """Responses in `response`, Anthropic in the `message` of `message_start`."""
    wire = f"event: x\ndata:{data}\n\n".encode()
    assert EventRenamer(NEW).feed(wire, end=True) == f"event: x\ndata:{after}\n\n".encode()


def test_data_on_several_lines_is_one_document():
    """As the standard joins them; line ends and the missing space stay."""
    wire = b'\xef\xbb\xbfdata:{"id":1,\r\ndata: \r\n: c\r\ndata: "model":"a"}\r\n\r\n'
    assert EventRenamer(NEW).feed(wire, end=False) == wire.replace(b'"a"', b'"new"')


def test_an_event_too_long_to_hold_ends_the_renaming():
    """And the stream goes on."""
    renamer = EventRenamer(NEW, limit=20)
    out = [renamer.feed(piece, end=False) for piece in (b'data: {"mo', b'del":"aaaaa', b'aaaa"}\n\n')]
    last = b'data: {"model":"a"}\n\n'
    assert b"".join(out) + renamer.feed(last, end=True) == b'data: {"model":"aaaaaaaaa"}\n\n' + last


names = st.sampled_from(["model", "message", "response", "type", "x", "mod\u00e9l"])
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["model", "message_start", "response.created", '"model":"a"'])
)
documents = st.dictionaries(
    names, st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6), max_size=5
)  # fmt: skip
line_ends = st.sampled_from(["\n", "\r\n", "\r"])


def expected(document: dict[str, object], *, event: bool) -> dict[str, object]:
    """Return what a full decode makes of it."""
    after = {
        key: NEW if key == "model" and isinstance(value, str) else value for key, value in document.items()
    }
    kind = document.get("type")
    for key, fits in (("response", str.startswith), ("message", str.__eq__)):
        inner = document.get(key)
        begin = "response." if key == "response" else "message_start"
        if event and isinstance(kind, str) and isinstance(inner, dict) and fits(kind, begin):
            after[key] = expected(inner, event=False)
    return after


@given(document=documents, ascii_=st.booleans(), indent=st.sampled_from([None, 1]))
def test_a_body_is_what_a_full_decode_would_make_of_it(document, ascii_, indent):
    """Whatever else it holds, in whatever spelling."""
    body = json.dumps(document, ensure_ascii=ascii_, indent=indent).encode()
    after = rename(body, NEW)
    assert json.loads(after) == expected(document, event=False)
    assert list(json.loads(after)) == list(document)


@settings(deadline=None)
@given(
    parts=st.lists(documents | st.sampled_from(["[DONE]", ""]), max_size=4),
    end=line_ends,
    escaped=st.booleans(),
    data=st.data(),
)
def test_a_stream_is_what_a_full_decode_would_make_of_it_wherever_it_is_cut(parts, end, escaped, data):
    """Every event, at any cut, and the bytes between them as they were."""

    def wire(documents: list[object]) -> bytes:
        texts = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=escaped) for one in documents]
        return "".join(f"id: 1{end}data: {text}{end}{end}" for text in texts).encode()

    sent = wire(list(parts))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=6)))
    renamer, out = EventRenamer(NEW), b""
    for start, stop in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        out += renamer.feed(sent[start:stop], end=stop == len(sent) and start == ([0, *cuts])[-1])
    assert out == wire([one if isinstance(one, str) else expected(one, event=True) for one in parts])
