"""The values that services see."""

from __future__ import annotations

import pytest

from services.extproc.events import Headers, Request

HEADERS = Headers([("a", "1"), ("b", "2"), ("a", "3")])


def test_headers_keep_repeats_and_order():
    """As on the wire."""
    assert list(HEADERS) == [("a", "1"), ("b", "2"), ("a", "3")]
    assert HEADERS.get("a") == "1"
    assert HEADERS.all("a") == ("1", "3")
    assert (len(HEADERS), "b" in HEADERS, "c" in HEADERS) == (3, True, False)


def test_a_header_that_is_not_there_is_the_default():
    """None, or what the caller says."""
    assert HEADERS.get("c") is None
    assert HEADERS.get("c", "x") == "x"
    assert HEADERS.all("c") == ()


def test_headers_are_values():
    """Equal by content, hashable, readable in a failed test."""
    same = Headers(iter([("a", "1"), ("b", "2"), ("a", "3")]))
    assert same == HEADERS
    assert len({HEADERS, same, Headers()}) == 2
    assert HEADERS != [("a", "1")]
    assert repr(Headers([("a", "1")])) == "Headers([('a', '1')])"


@pytest.mark.parametrize(
    ("headers", "method", "path"),
    [
        ([(":method", "GET"), (":path", "/v1/models?limit=1")], "GET", "/v1/models"),
        ([(":method", "POST"), (":path", "/v1/x")], "POST", "/v1/x"),
        ([], "", ""),
    ],
)
def test_a_request_knows_its_method_and_path(headers, method, path):
    """Without the query, which may hold keys."""
    request = Request(Headers(headers))
    assert (request.method, request.path) == (method, path)
