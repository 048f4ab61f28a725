"""The test kit refuses what Envoy refuses, so that no test passes on a reply that Envoy would not take."""

from __future__ import annotations

import pytest

from services.extproc.decisions import Forward, Reject
from services.extproc.leg import Leg
from services.extproc.messages import Chunk, Continue, Message, Mode, Part, Side
from services.extproc.script import Script, at_every_cut, cuts
from tests.extproc.kit import Fake, request_body, request_headers, response_headers, trailers


def leg(mode: Mode, *messages: Message, side: Side = Side.REQUEST) -> Leg:
    talking = Leg(side, mode)
    for message in messages:
        talking.sent(message)
    return talking


HEAD = Continue(Side.REQUEST, Part.HEADERS)
BODY = Continue(Side.REQUEST, Part.BODY)


@pytest.mark.parametrize(
    ("talking", "replies", "message"),
    [
        (leg(Mode.BUFFERED), [HEAD], "unexpected reply to headers"),
        (leg(Mode.BUFFERED, request_headers()), [BODY], "headers is due"),
        (leg(Mode.BUFFERED, request_headers()), [HEAD, HEAD], "unexpected reply"),
        (leg(Mode.BUFFERED, request_headers()), [Chunk(Side.REQUEST)], "spurious"),
        (leg(Mode.FULL_DUPLEX_STREAMED, request_headers()), [Chunk(Side.REQUEST)], "before the header reply"),
        (
            leg(Mode.FULL_DUPLEX_STREAMED, request_headers()),
            [HEAD, Chunk(Side.REQUEST, end=True), Chunk(Side.REQUEST)],
            "after the end",
        ),
        (
            leg(Mode.FULL_DUPLEX_STREAMED, request_headers(), trailers(Side.REQUEST)),
            [HEAD, Chunk(Side.REQUEST, end=True)],
            "would hang",
        ),
        (
            leg(Mode.STREAMED, request_headers(), request_body(b"x")),
            [HEAD, Continue(Side.REQUEST, Part.BODY, Forward(set_headers=(("a", "b"),)))],
            "ignores these header changes",
        ),
        (
            leg(Mode.NONE, request_headers()),
            [Continue(Side.REQUEST, Part.HEADERS, Forward(body=b"x"))],
            "carries no body",
        ),
    ],
)
def test_an_illegal_reply_is_a_failed_assertion(talking, replies, message):
    """The rules are those that real Envoy enforces."""

    def play():
        for reply in replies:
            talking.got(reply)

    with pytest.raises(AssertionError, match=message):
        play()


def test_a_reject_after_the_head_of_an_answer_is_illegal():
    """Envoy would cut the connection."""
    talking = leg(Mode.FULL_DUPLEX_STREAMED, response_headers(), side=Side.RESPONSE)
    talking.got(Continue(Side.RESPONSE, Part.HEADERS))
    with pytest.raises(AssertionError, match="after the head"):
        talking.rejected(Reject(500))


def test_a_message_without_its_reply_is_not_complete():
    """The client would wait for ever."""
    talking = leg(Mode.STREAMED, request_headers(), request_body(b"x"), request_body(b"", end=True))
    talking.got(HEAD)
    talking.got(BODY)
    before = talking.result.complete
    talking.got(BODY)
    assert (before, talking.result.complete, talking.result.body) == (False, True, b"x")


async def test_a_bug_is_raised_where_it_is_not_contained():
    """A test that did not expect it must not pass."""
    with pytest.raises(ValueError, match="a bug"):
        await Script(Fake(request=ValueError("a bug"))).request(body=b"x")


async def test_headers_given_replace_those_that_are_always_there():
    """And come in their order; a mapping or pairs."""
    fake = Fake()
    await Script(fake).request([(":path", "/v1/embeddings"), ("x-a", "1"), ("x-a", "2")], b"12")
    headers = fake.requests[0].headers
    assert headers.get(":path") == "/v1/embeddings"
    assert headers.get(":method") == "POST"
    assert headers.get("content-length") == "2"
    assert headers.all("x-a") == ("1", "2")


def test_every_cut_is_tried():
    """Whole, at each byte, and at all bytes at once."""
    assert list(cuts(b"abc")) == [[], [1], [2], [1, 2]]


async def test_a_result_that_depends_on_the_cut_is_a_failed_assertion():
    """It says where the cut was."""

    async def run(cut):
        return cut == [2]

    with pytest.raises(AssertionError, match=r"cut at \[2\]"):
        await at_every_cut(run, b"abc")
