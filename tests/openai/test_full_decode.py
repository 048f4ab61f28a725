"""Our readers against the standard library: any bytes, and bytes that were JSON or a stream before something broke them."""

from __future__ import annotations

import json

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.openai.full_decode import check_body, check_rename, check_stream, comparable

TOKENS = [
    *(b'{ } [ ] , : " \\ \\" \\u00e9 \\ud83d\\ude00 \\ud83d \\udc00 null true 1 -0.0 1e5 01 NaN "model" "mod\\u0065l"').split(),
    *(b'"model":"a" "messages" "type" "message" "response" "message_start" "response.created" ""').split(),
    b" ", b"\n", b"\r\n", b"\t", b"\x00", b"\x7f", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"'",
]  # fmt: skip
LINES = [
    b"data:",
    b"data: ",
    b"data",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\r\n\r\n",
    b":",
    b"id: 1",
    b"\xef\xbb\xbf",
]
NAMES = st.sampled_from(["model", "messages", "type", "message", "response", "x"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=4)
    | st.sampled_from(["message_start", "response.x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.builds(
    lambda value, escaped: json.dumps(value, ensure_ascii=escaped).encode("utf-8", "replace"),
    st.dictionaries(NAMES, VALUES, max_size=5),
    st.booleans(),
)
EVENTS = DOCUMENTS.map(lambda document: b"data: " + document + b"\n\n")


@st.composite
def broken(draw: st.DrawFn, whole: st.SearchStrategy[bytes], tokens: list[bytes]) -> bytes:
    """Return something whole with a few pieces cut out of it or put into it."""
    body = draw(whole)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 6)))
        body = body[:start] + draw(st.sampled_from([b"", *tokens])) + body[end:]
    return body


SOUP = st.lists(st.sampled_from(TOKENS), max_size=20).map(b"".join)
BODIES = st.binary(max_size=60) | SOUP | SOUP.map(lambda soup: b"{" + soup + b"}") | broken(DOCUMENTS, TOKENS)
STREAMS = (
    st.binary(max_size=60)
    | st.lists(st.sampled_from(LINES + TOKENS), max_size=25).map(b"".join)
    | broken(st.lists(EVENTS | st.sampled_from(LINES), max_size=5).map(b"".join), LINES + TOKENS)
)


@given(BODIES)
def test_a_body_is_read_as_the_standard_library_reads_it(body):
    """Accepted or refused, names and values, before and after a rewrite."""
    assume(comparable(body))
    check_body(body)


@given(BODIES)
def test_an_answer_is_renamed_as_the_standard_library_would(body):
    """And bytes that are no answer are left alone."""
    assume(comparable(body))
    check_rename(body)


@given(STREAMS, st.lists(st.integers(0, 400), max_size=8))
def test_a_stream_is_framed_and_renamed_as_a_reader_line_by_line_would(wire, cuts):
    """Wherever it is cut, in whatever line ends."""
    assume(comparable(wire))
    check_stream(wire, cuts)
