"""Session and exchange together: order of calls, refusals, bugs, and the one end."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from services.extproc.budget import Budget
from services.extproc.conversation import Conversation
from services.extproc.decisions import Emit, Forward, Hold, Reject, Stream, Wait
from services.extproc.errors import NotFound, Overloaded, ProtocolError
from services.extproc.events import End, Outcome
from services.extproc.exchange import Exchange, FailMode
from services.extproc.messages import Continue, Mode, Modes, MoreTime
from services.extproc.script import Recorder, Script
from tests.extproc.kit import Fake, Patient, request_body, request_headers, response_body, response_headers

BUG = ValueError("a bug")
BODY = b'{"model":"llama"}'


def conversation(fake, *, budget=1000, observer=None, clock=None):
    return Conversation(
        fake,
        {},
        body_limit=1000,
        budget=Budget(budget),
        observer=observer or Recorder(),
        clock=clock or itertools.count().__next__,
    )


async def test_an_exchange_that_overrides_nothing_changes_nothing():
    """Every default passes through."""

    class Silent(Fake):
        def open(self, context):
            return Exchange()

    script = Script(Silent(), request_body="FULL_DUPLEX_STREAMED", response_body="FULL_DUPLEX_STREAMED")
    sent = await script.request(body=BODY)
    answer = await script.response(body=BODY)
    assert (sent.body, sent.set_headers, answer.body, answer.set_headers) == (BODY, {}, BODY, {})
    assert script.close().outcome is Outcome.FORWARDED


async def test_the_context_reaches_the_service():
    """The gRPC initial metadata that a filter or route sets."""
    fake = Fake()
    Script(fake, context={"x-gateway-pool": "llama"})
    assert fake.contexts == [{"x-gateway-pool": "llama"}]


@pytest.mark.parametrize(
    ("answers", "end"),
    [
        ({}, End(Outcome.FORWARDED)),
        ({"request": Reject(404, details="no_such_model")}, End(Outcome.REJECTED, "no_such_model")),
        ({"request": Reject(404)}, End(Outcome.REJECTED, "rejected")),
        ({"request": NotFound("m")}, End(Outcome.REJECTED, "not_found")),
        ({"request": Overloaded("m", reason="queue_full")}, End(Outcome.REJECTED, "queue_full")),
        ({"request": BUG}, End(Outcome.FAILED, "bug")),
        ({"on_headers": NotFound("m")}, End(Outcome.REJECTED, "not_found")),
        ({"on_headers": BUG}, End(Outcome.FAILED, "bug")),
    ],
)
async def test_the_end_says_how_it_went(answers, end):
    """Once, with the outcome and a reason from a closed set."""
    fake = Fake(**answers)
    script = Script(fake, contain=True)
    await script.request(body=BODY)
    script.close()
    script.close()
    assert fake.ends == [end]


async def test_a_stream_that_breaks_off_was_abandoned():
    """Half-close in the middle of a body."""
    fake = Fake()
    talk = conversation(fake)
    await talk.receive(request_headers(modes=Modes(request=Mode.BUFFERED)))
    talk.close()
    assert fake.ends == [End(Outcome.ABANDONED)]


async def test_a_cancelled_decision_was_abandoned():
    """The client left while the service was thinking."""

    class Slow(Fake):
        def open(self, context):
            return SlowExchange()

    ends = []

    class SlowExchange(Exchange):
        async def request(self, request):
            await asyncio.Event().wait()

        def end(self, end):
            ends.append(end)

    talk = conversation(Slow())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await talk.receive(request_headers(end=True, modes=Modes()))
    talk.close()
    assert ends == [End(Outcome.ABANDONED)]


class TestFailOpen:
    """A bug lets the exchange pass as it came."""

    @pytest.mark.parametrize("mode", ["BUFFERED", "STREAMED", "FULL_DUPLEX_STREAMED"])
    async def test_on_the_request(self, mode):
        """With the body that was held."""
        script = Script(Fake(FailMode.OPEN, request=BUG), request_body=mode, contain=True)
        result = await script.request(body=BODY, cut=[4])
        assert result.body == BODY
        assert result.complete
        assert script.failures == [BUG]

    async def test_in_the_choice_of_when_to_decide(self):
        """`decides_on_headers` is code of the service too."""
        script = Script(
            Fake(FailMode.OPEN, on_headers=BUG), request_body="FULL_DUPLEX_STREAMED", contain=True
        )
        result = await script.request(body=BODY)
        assert result.body == BODY
        assert result.complete

    async def test_on_the_head_of_the_answer(self):
        """And on all that follows."""
        fake = Fake(FailMode.OPEN, head=BUG)
        script = Script(fake, response_body="FULL_DUPLEX_STREAMED", contain=True)
        result = await script.response(body=BODY, cut=[4])
        assert result.body == BODY
        assert result.complete

    async def test_on_a_held_answer(self):
        """Head and body."""
        fake = Fake(FailMode.OPEN, head=Hold(), body=BUG)
        script = Script(fake, response_body="FULL_DUPLEX_STREAMED", contain=True)
        assert (await script.response(body=BODY, cut=[4])).body == BODY

    async def test_in_a_stream_that_was_not_changed_so_far(self):
        """The rest passes unseen."""
        fake = Fake(FailMode.OPEN, head=Stream(), chunk=lambda chunk: fail_on(b"b", chunk))
        script = Script(fake, response_body="FULL_DUPLEX_STREAMED", contain=True)
        assert (await script.response(body=b"abc", cut=[1, 2])).body == b"abc"
        assert len(fake.chunks) == 2

    async def test_not_in_a_stream_that_was_changed(self):
        """What the service had taken would be lost."""
        fake = Fake(FailMode.OPEN, head=Stream(), chunk=lambda chunk: fail_on(b"b", chunk, Emit()))
        script = Script(fake, response_body="FULL_DUPLEX_STREAMED", contain=True)
        with pytest.raises(ProtocolError, match="already changed"):
            await script.response(body=b"abc", cut=[1, 2])

    async def test_the_exchange_is_not_asked_again(self):
        """Its state means nothing after a bug."""
        fake = Fake(FailMode.OPEN, request=BUG)
        script = Script(fake, response_body="FULL_DUPLEX_STREAMED", contain=True)
        await script.request(body=BODY)
        assert (await script.response(body=BODY)).body == BODY
        assert fake.heads == []
        assert script.close().outcome is Outcome.FAILED


class TestFailClosed:
    """A bug is a 500 in the service's words, or the end of the stream."""

    @pytest.mark.parametrize("mode", ["BUFFERED", "STREAMED", "FULL_DUPLEX_STREAMED"])
    async def test_on_the_request(self, mode):
        """Nothing goes on."""
        script = Script(Fake(FailMode.CLOSED, request=BUG), request_body=mode, contain=True)
        result = await script.request(body=BODY)
        assert result.rejected == Reject(500, b"internal error", details="internal")

    async def test_on_the_answer(self):
        """Held bytes stay held."""
        fake = Fake(FailMode.CLOSED, head=Hold(), body=BUG)
        script = Script(fake, response_body="FULL_DUPLEX_STREAMED", contain=True)
        result = await script.response(body=BODY)
        assert result.rejected is not None
        assert result.body == b""

    async def test_in_a_stream(self):
        """The head has gone: the stream ends with an error, not with the rest."""
        fake = Fake(FailMode.CLOSED, head=Stream(), chunk=lambda chunk: fail_on(b"b", chunk))
        script = Script(fake, response_body="FULL_DUPLEX_STREAMED", contain=True)
        with pytest.raises(ProtocolError, match="can no longer be refused"):
            await script.response(body=b"abc", cut=[1, 2])


def fail_on(data, chunk, otherwise=None):
    if chunk.data == data:
        raise BUG
    return otherwise or Emit(chunk.data)


async def test_the_record_says_what_happened():
    """For metrics and the log: who, how long, how much."""
    recorder = Recorder()
    fake = Fake(head=Stream(), request=Forward(metadata={"a": {"b": "c"}}))
    script = Script(fake, response_body="FULL_DUPLEX_STREAMED")
    await script.request({":path": "/v1/x?key=1", "x-request-id": "id-1"}, BODY)
    await script.response(201, body=b"12345")
    record = script.close()
    assert (record.method, record.path, record.request_id) == ("POST", "/v1/x", "id-1")
    assert (record.status, record.request_bytes, record.response_bytes) == (201, len(BODY), 5)

    talk = conversation(fake, observer=recorder)  # a clock that advances by one second at each look
    await talk.receive(request_headers(modes=Modes(Mode.BUFFERED, Mode.FULL_DUPLEX_STREAMED)))
    await talk.receive(request_body(BODY, end=True))
    await talk.receive(response_headers())
    await talk.receive(response_body(b"a"))
    talk.close()
    (record,) = recorder.records
    assert (record.request_seconds, record.response_seconds, record.seconds) == (1, 2, 7)


async def test_the_end_is_reported_even_if_the_exchange_fails_at_it():
    """A stream that is not counted out would be in flight for ever."""

    class Bad(Exchange):
        def end(self, end):
            raise BUG

    class BadService(Fake):
        def open(self, context):
            return Bad()

    recorder = Recorder()
    with pytest.raises(ValueError, match="a bug"):
        conversation(BadService(), observer=recorder).close()
    assert len(recorder.records) == 1


class TestBudget:
    """All streams together hold no more than they may."""

    async def test_a_body_over_it_is_refused(self):
        """503, in the words of the service."""
        fake = Fake()
        talk = conversation(fake, budget=10)
        await talk.receive(request_headers(modes=Modes(request=Mode.BUFFERED)))
        (reject,) = await talk.receive(request_body(b"x" * 11, end=True))
        assert isinstance(reject, Reject)
        assert reject.status == 503
        assert fake.requests == []

    async def test_what_was_decided_no_longer_counts(self):
        """Nor does what was abandoned."""
        budget = Budget(10)
        for close in (True, False):
            talk = Conversation(Fake(), {}, body_limit=1000, budget=budget, observer=Recorder())
            await talk.receive(request_headers(modes=Modes(request=Mode.FULL_DUPLEX_STREAMED)))
            await talk.receive(request_body(b"x" * 10))
            assert budget.used == 10
            if close:
                talk.close()
            else:
                await talk.receive(request_body(b"", end=True))
            assert budget.used == 0


async def test_a_decision_that_takes_its_time_asks_envoy_for_more():
    """The request for more time goes out first; the decision follows on `resume`."""
    patient = Patient(30.0)
    talk = conversation(patient)
    modes = Modes()
    assert await talk.receive(request_headers(end=True, modes=modes)) == (MoreTime(30.0),)
    assert talk.waiting
    patient.go.set()
    (reply,) = await talk.resume()
    assert isinstance(reply, Continue)
    assert reply.forward.set_headers == (("x-a", "b"),)
    assert not talk.waiting


async def test_a_script_waits_like_envoy():
    """The seconds that were asked for are in the result."""
    patient = Patient(12.5)
    patient.go.set()
    sent = await Script(patient, request_body="NONE").request()
    assert (sent.more_time, sent.set_headers, sent.complete) == (12.5, {"x-a": "b"}, True)


async def test_only_a_request_can_be_waited_for():
    """Anything else is a breach of the protocol."""
    talk = conversation(Fake(head=Wait(1.0)))  # type: ignore[arg-type]  # the mistake under test)
    await talk.receive(request_headers(end=True, modes=Modes()))
    with pytest.raises(ProtocolError, match="Wait is an answer to a request"):
        await talk.receive(response_headers())
