"""What is known at the end: the server's own counts, or honest estimates."""

from __future__ import annotations

import pytest

from services.epp.answer import AnswerReader
from services.epp.ending import estimated_output, finished
from services.epp.inflight import Entry
from services.epp.records import Ended, EndOutcome
from services.extproc.events import Headers, ResponseChunk, ResponseHead
from services.openai.usage import Usage
from services.openai.usage_reader import MOST

ENTRY = Entry(
    "d", 0, 100.0, 40, 20, model="m", stream=True, context_tokens=100, prompt_bytes=400, fairness="f"
)
STREAM = (
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}\n\ndata: [DONE]\n\n'
)


def end(**more: object) -> Ended:
    return Ended("p", "d", EndOutcome.COMPLETED, **more)  # type: ignore[arg-type]  # by name


def test_times_count_from_the_moment_of_sending():
    """What the request waited before is in the total alone."""
    done = finished(
        ENTRY, end(seconds=5.0, sent_after=2.0, answered_after=2.5, first_token_after=3.0), "a:1", 105.0
    )
    assert (done.seconds, done.first_byte, done.first_token, done.total_seconds) == (3.0, 0.5, 1.0, 5.0)
    assert (done.endpoint, done.fairness, done.uncached_tokens, done.prompt_tokens) == ("a:1", "f", 40, 100)


def test_a_request_that_was_never_sent_lasted_since_its_pick():
    """By the picker's own clock."""
    assert finished(ENTRY, end(), "a:1", 104.0).seconds == 4.0


def test_the_servers_counts_come_before_estimates():
    """And say so."""
    done = finished(ENTRY, end(usage=Usage(90, 7, 50), response_bytes=10**6), "a:1", 105.0)
    assert (done.prompt_tokens, done.output_tokens, done.cached_tokens, done.counted) == (90, 7, 50, True)


@pytest.mark.parametrize(
    ("stream", "size", "limit", "expected"),
    [(True, 0, 0, 0), (True, 1910, 0, 10), (True, 50, 0, 1), (False, 390, 0, 10), (False, 10**6, 64, 64)],
)
def test_bytes_are_an_estimate_of_tokens(stream, size, limit, expected):
    """A streamed token is an event; a whole answer is its text, and no longer than its limit."""
    entry = Entry("d", 0, 0.0, 0, 0, model="m", stream=stream, max_tokens=limit)
    assert estimated_output(entry, end(response_bytes=size)) == expected


def reader(kind: str) -> AnswerReader:
    return AnswerReader(ResponseHead(200, Headers((("content-type", kind),)), body_seen=True))


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_usage_is_found_however_a_stream_is_cut(cut):
    """The first piece with bytes is the first token's moment."""
    answer = reader("text/event-stream; charset=utf-8")
    for now, piece in ((1.0, b""), (2.0, STREAM[:cut]), (3.0, STREAM[cut:])):
        answer.feed(ResponseChunk(piece), now)
    assert answer.usage == Usage(9, 3, 4)
    assert answer.first_at == (2.0 if cut else 3.0)
    assert answer.bytes == len(STREAM)


def test_usage_is_found_in_a_whole_answer():
    """Which has no first token."""
    answer, body = reader("application/json"), b'{"usage":{"prompt_tokens":9,"completion_tokens":3}}'
    answer.feed(ResponseChunk(body[:20]), 1.0)
    answer.feed(ResponseChunk(body[20:], end=True), 2.0)
    assert (answer.usage, answer.first_at) == (Usage(9, 3, 0), None)


def test_a_huge_answer_is_not_kept():
    """Its usage is not worth its memory."""
    answer = reader("application/json")
    answer.feed(ResponseChunk(b'{"usage":{"prompt_tokens":9},"x":"' + b"y" * MOST), 1.0)
    answer.feed(ResponseChunk(b'"}', end=True), 2.0)
    assert answer.usage is None
