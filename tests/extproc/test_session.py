"""One stream: both sides together, how it ends, and what is not allowed."""

from __future__ import annotations

import pytest

from services.extproc.decisions import Emit, Forward, Reject, Stream
from services.extproc.errors import ProtocolError
from services.extproc.events import Outcome, Request, ResponseHead
from services.extproc.messages import Chunk, Continue, Message, Mode, Modes, Part, Side
from services.extproc.session import Session
from services.extproc.turns import NOTHING
from tests.extproc.kit import request_body, request_headers, response_body, response_headers

BUFFERED = Modes(request=Mode.BUFFERED)
FULL = Modes(Mode.FULL_DUPLEX_STREAMED, Mode.FULL_DUPLEX_STREAMED)


def session(*, on_headers: bool = False) -> Session:
    return Session(body_limit=1000, decides_on_headers=lambda _: on_headers)


def decided(modes: Modes) -> Session:
    """Return a session whose request, without a body, has been forwarded."""
    stream = session()
    stream.receive(request_headers(end=True, modes=modes))
    stream.answer(Forward())
    return stream


def test_a_conversation_reads_from_top_to_bottom():
    """Replies at once where they are owed, a question where a decision is due."""
    stream = session()
    head = Continue(Side.REQUEST, Part.HEADERS)
    assert stream.receive(request_headers(modes=BUFFERED)).replies == (head,)
    assert stream.held == 0
    turn = stream.receive(request_body(b"{}", end=True))
    assert isinstance(turn.ask, Request)
    assert turn.ask.body == b"{}"
    assert stream.held == 2
    change = Forward(set_headers=(("x-model", "m"),))
    assert stream.answer(change).replies == (Continue(Side.REQUEST, Part.BODY, change),)
    assert stream.held == 0
    assert isinstance(stream.receive(response_headers()).ask, ResponseHead)
    assert stream.answer(Forward()).replies == (Continue(Side.RESPONSE, Part.HEADERS),)
    assert stream.outcome() is Outcome.FORWARDED


@pytest.mark.parametrize("modes", [Modes(), BUFFERED, FULL])
def test_a_stream_may_begin_with_the_response(modes):
    """Envoy's own answers run through the response side alone."""
    stream = session()
    turn = stream.receive(response_headers(status=413, end=True, modes=modes))
    assert isinstance(turn.ask, ResponseHead)
    assert not turn.ask.request_seen
    assert stream.answer(Forward()).replies
    assert stream.outcome() is Outcome.FORWARDED


def test_an_answer_may_overtake_the_request():
    """Envoy's 413 comes while the body is being collected: the request was not seen, and is not asked about."""
    stream = session()
    stream.receive(request_headers(modes=BUFFERED))
    turn = stream.receive(response_headers(status=413, end=True))
    assert isinstance(turn.ask, ResponseHead)
    assert not turn.ask.request_seen
    stream.answer(Forward())
    assert stream.receive(request_body(b"late", end=True)) == NOTHING


def test_a_server_may_answer_before_the_request_has_ended():
    """Full duplex: both sides go on, each by its own rules."""
    stream = session(on_headers=True)
    stream.receive(request_headers(modes=FULL))
    stream.answer(Forward())
    stream.receive(response_headers())
    stream.answer(Forward())
    assert stream.receive(request_body(b"abc", end=True)).replies
    assert stream.receive(response_body(b"def", end=True)).replies


def test_after_the_services_own_answer_nothing_is_owed():
    """Envoy ends the stream; what was on its way is ignored."""
    stream = session()
    stream.receive(request_headers(end=True, modes=FULL))
    reject = Reject(429)
    assert stream.answer(reject).replies == (reject,)
    assert stream.over
    assert stream.receive(response_headers()) == NOTHING
    assert stream.outcome() is Outcome.REJECTED
    assert stream.progress.status == 429


@pytest.mark.parametrize("mode", [Mode.BUFFERED_PARTIAL, Mode.GRPC])
@pytest.mark.parametrize("side", ["request", "response"])
def test_modes_that_would_hide_part_of_a_body_are_refused(mode, side):
    """At the first message, with the modes that can be used."""
    with pytest.raises(ProtocolError, match=f"{mode.name} is not supported: use BUFFERED"):
        session().receive(request_headers(modes=Modes(**{side: mode})))


def test_an_observed_stream_is_answered_with_nothing():
    """`observability_mode`: the exchange is asked, Envoy is not told."""
    stream = session()
    first = Message(Side.REQUEST, end=True, observing=True)
    turn = stream.receive(first)
    assert isinstance(turn.ask, Request)
    assert stream.answer(Forward(set_headers=(("a", "b"),))) == NOTHING


def test_an_unknown_message_is_ignored_when_nothing_is_owed():
    """A later Envoy may say more than this version knows."""
    assert decided(Modes()).receive(Message(None)) == NOTHING
    assert session().receive(Message(None, modes=Modes())) == NOTHING


def test_an_unknown_message_while_a_decision_is_due_is_an_error():
    """It might have been the one that the decision waits for."""
    stream = session()
    stream.receive(request_headers(modes=BUFFERED))
    with pytest.raises(ProtocolError, match="unknown kind"):
        stream.receive(Message(None))


def test_a_request_after_its_answer_is_an_error():
    """One exchange per stream."""
    stream = session()
    stream.receive(response_headers(end=True, modes=Modes()))
    stream.answer(Forward())
    with pytest.raises(ProtocolError, match="request after the response"):
        stream.receive(request_headers())


@pytest.mark.parametrize(
    ("answer", "message"),
    [(Stream(), "Stream is no answer to a request"), (Emit(), "Emit is no answer to a request")],
)
def test_the_wrong_kind_of_answer_is_an_error(answer, message):
    """A bug of a service, said plainly."""
    stream = session()
    stream.receive(request_headers(end=True, modes=Modes()))
    with pytest.raises(ProtocolError, match=message):
        stream.answer(answer)


def test_an_answer_that_nobody_asked_for_is_an_error():
    """Neither for a request nor for a response."""
    stream = decided(FULL)
    with pytest.raises(ProtocolError, match="no request waits"):
        stream.answer(Forward())
    stream.receive(response_headers(end=True))
    stream.answer(Forward())
    for late in (Forward(), Emit()):
        with pytest.raises(ProtocolError, match="no response"):
            stream.answer(late)


def test_a_body_in_mode_none_is_an_error():
    """An Envoy so old that it does not tell its modes cannot be served with bodies."""
    stream = session()
    stream.receive(request_headers(modes=None))
    stream.answer(Forward())
    with pytest.raises(ProtocolError, match="request body in mode NONE"):
        stream.receive(request_body(b"x"))


class TestOutcome:
    """How a stream ended, if its input ends now."""

    def test_a_stream_without_messages_was_abandoned(self):
        """The client left before Envoy had anything to say."""
        assert session().outcome() is Outcome.ABANDONED

    def test_an_undecided_request_was_abandoned(self):
        """Its body was still on the way."""
        stream = session()
        stream.receive(request_headers(modes=BUFFERED))
        assert stream.outcome() is Outcome.ABANDONED

    def test_a_decided_request_was_forwarded_where_no_response_is_to_come(self):
        """Envoy skips the response, or the service sees its head only."""
        assert decided(BUFFERED).outcome() is Outcome.FORWARDED

    def test_a_decided_request_was_abandoned_where_a_response_had_to_come(self):
        """The filter has a response body mode, so the answer would have passed here."""
        assert decided(FULL).outcome() is Outcome.ABANDONED

    def test_a_request_that_still_flowed_was_abandoned(self):
        """Decided on its headers, but its body never ended."""
        stream = session(on_headers=True)
        stream.receive(request_headers(modes=Modes(Mode.FULL_DUPLEX_STREAMED)))
        stream.answer(Forward())
        stream.receive(request_body(b"x"))
        assert stream.outcome() is Outcome.ABANDONED

    @pytest.mark.parametrize("head", [Forward(), Stream()])
    def test_an_answer_cut_short_was_abandoned(self, head):
        """The client left, or the server died."""
        stream = decided(FULL)
        stream.receive(response_headers())
        stream.answer(head)
        assert stream.outcome() is Outcome.ABANDONED

    def test_a_head_that_nobody_decided_on_was_abandoned(self):
        """Cancelled in the middle of the decision."""
        stream = decided(Modes())
        stream.receive(response_headers())
        assert stream.outcome() is Outcome.ABANDONED

    def test_a_whole_answer_was_forwarded(self):
        """To its last byte."""
        stream = decided(FULL)
        stream.receive(response_headers())
        stream.answer(Forward())
        stream.receive(response_body(b"x", end=True))
        assert stream.outcome() is Outcome.FORWARDED


class TestBypass:
    """Fail-open: everything goes on as it came."""

    def test_a_held_request_goes_on_whole(self):
        """With its body, in full duplex too."""
        stream = session()
        stream.receive(request_headers(modes=FULL))
        stream.receive(request_body(b"ab"))
        stream.receive(request_body(b"cd", end=True))
        assert stream.bypass().replies == (
            Continue(Side.REQUEST, Part.HEADERS),
            Chunk(Side.REQUEST, b"abcd", end=True),
        )

    def test_nothing_is_asked_any_more(self):
        """The exchange had a bug; its state means nothing."""
        stream = session()
        stream.receive(request_headers(end=True, modes=FULL))
        stream.bypass()
        turn = stream.receive(response_headers())
        assert turn.ask is None
        assert turn.replies == (Continue(Side.RESPONSE, Part.HEADERS),)
        assert stream.receive(response_body(b"x", end=True)).replies

    def test_a_stream_that_was_passed_on_untouched_can_be(self):
        """Every byte so far went on as it came."""
        stream = decided(FULL)
        stream.receive(response_headers())
        stream.answer(Stream())
        stream.receive(response_body(b"a"))
        stream.answer(Emit(b"a"))
        stream.receive(response_body(b"b"))
        assert stream.bypass().replies == (Chunk(Side.RESPONSE, b"b"),)
        assert stream.receive(response_body(b"c", end=True)).replies == (
            Chunk(Side.RESPONSE, b"c", end=True),
        )

    def test_a_stream_with_bytes_held_back_cannot_be(self):
        """They would be lost silently."""
        stream = decided(FULL)
        stream.receive(response_headers())
        stream.answer(Stream())
        stream.receive(response_body(b"a"))
        stream.answer(Emit())
        stream.receive(response_body(b"b"))
        with pytest.raises(ProtocolError, match="already changed"):
            stream.bypass()

    def test_with_nothing_open_there_is_nothing_to_do(self):
        """No reply is owed."""
        assert decided(BUFFERED).bypass() == NOTHING
