"""The servicer over real gRPC on loopback."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from services.extproc.config import Limits
from services.extproc.decisions import Forward, Hold
from services.extproc.decisions import Stream as Streaming
from services.extproc.errors import Blocked
from services.extproc.events import Outcome
from services.extproc.exchange import Exchange, FailMode
from services.extproc.lifecycle import Parts
from services.extproc.readiness import Readiness
from services.extproc.script import Recorder
from services.pb import extproc_pb2 as pb
from tests.extproc.kit import Fake, Patient
from tests.extproc.live import BUFFERED, Stream, connected, headers, served

FULL = pb.ProtocolConfiguration(response_body_mode=pb.FULL_DUPLEX_STREAMED)
POST = headers((":method", "POST"), (":path", "/v1/chat/completions"))


async def test_a_buffered_request_from_end_to_end():
    """Header reply at once, decision in the body's reply, OK when Envoy half-closes, one end."""
    fake = Fake(request=Forward(set_headers=(("x-model", "llama"),)))
    async with served(fake) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel, [("x-gateway-pool", "llama")])
        await stream.say(request_headers=POST, protocol_config=BUFFERED)
        first = await stream.hear()
        await stream.say(request_body=pb.HttpBody(body=b"{}", end_of_stream=True))
        second = await stream.hear()
        await stream.done()
        assert await stream.hear() is None
        assert await stream.code() is grpc.StatusCode.OK

    assert first is not None
    assert first.WhichOneof("response") == "request_headers"
    assert second is not None
    (option,) = second.request_body.response.header_mutation.set_headers
    assert (option.header.key, option.header.raw_value) == ("x-model", b"llama")
    assert fake.requests[0].body == b"{}"
    assert fake.contexts[0]["x-gateway-pool"] == "llama"
    assert [end.outcome for end in fake.ends] == [Outcome.FORWARDED]


async def test_a_service_that_is_not_ready_answers_nothing():
    """The proxy can then ask another replica: it noticed nothing of this one's absence."""
    fake, parts = Fake(request=Forward()), Parts(readiness=Readiness(ready=False))
    async with served(fake, parts=parts) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel)
        await stream.say(request_headers=headers(end=True), protocol_config=BUFFERED)
        assert await stream.hear() is None
        assert await stream.code() is grpc.StatusCode.UNAVAILABLE
        parts.readiness.set(True)
        stream = Stream(channel)
        await stream.say(request_headers=headers(end=True), protocol_config=BUFFERED)
        assert await stream.hear() is not None
    assert len(fake.requests) == 1


async def test_a_refusal_ends_the_stream():
    """Nothing more is owed: the server says OK without waiting for the half-close."""
    fake = Fake(request=Blocked("no"))
    async with served(fake) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel)
        await stream.say(request_headers=headers(end=True), protocol_config=BUFFERED)
        reply = await stream.hear()
        assert await stream.code() is grpc.StatusCode.OK
    assert reply is not None
    assert reply.immediate_response.status.code == 403
    assert [end.outcome for end in fake.ends] == [Outcome.REJECTED]


async def test_a_breach_of_the_protocol_ends_the_stream_with_an_error():
    """Envoy answers the client 500, or lets the request pass, as its filter says."""
    recorder, fake = Recorder(), Fake()
    parts = Parts(observers=(recorder,))
    async with served(fake, parts=parts) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel)
        await stream.say(request_body=pb.HttpBody(body=b"x"), protocol_config=BUFFERED)
        assert await stream.hear() is None
        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "request body before the headers" in (await stream.details() or "")
    assert [end.outcome for end in fake.ends] == [Outcome.FAILED]
    assert len(recorder.failures) == 1


async def test_a_bug_of_a_service_that_fails_closed_is_a_500():
    """Logged and counted by the observers, and the process lives on."""
    recorder, fake = Recorder(), Fake(FailMode.CLOSED, request=ValueError("a bug"))
    parts = Parts(observers=(recorder,))
    async with served(fake, parts=parts) as ports, connected(ports.grpc) as channel:
        for _ in range(2):
            stream = Stream(channel)
            await stream.say(request_headers=headers(end=True), protocol_config=BUFFERED)
            reply = await stream.hear()
            assert reply is not None
            assert reply.immediate_response.status.code == 500
            assert await stream.code() is grpc.StatusCode.OK
    assert [str(failure) for failure in recorder.failures] == ["a bug", "a bug"]


async def test_a_bug_of_a_service_that_fails_open_lets_the_request_pass():
    """As it came."""
    fake = Fake(FailMode.OPEN, request=ValueError("a bug"))
    async with served(fake) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel)
        await stream.say(request_headers=POST, protocol_config=BUFFERED)
        await stream.hear()
        await stream.say(request_body=pb.HttpBody(body=b"{}", end_of_stream=True))
        reply = await stream.hear()
        await stream.done()
        await stream.code()
    assert reply == pb.ProcessingResponse(request_body=pb.BodyResponse(response=pb.CommonResponse()))
    assert [end.outcome for end in fake.ends] == [Outcome.FAILED]


async def test_a_cancelled_stream_was_abandoned():
    """Envoy resets the stream when the client leaves while a reply is due."""
    began, ended = asyncio.Event(), asyncio.Event()
    ends = []

    class Waiting(Exchange):
        async def request(self, request):
            began.set()
            await asyncio.Event().wait()

        def end(self, end):
            ends.append(end.outcome)
            ended.set()

    class Service(Fake):
        def open(self, context):
            return Waiting()

    async with served(Service()) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel)
        await stream.say(request_headers=headers(end=True), protocol_config=BUFFERED)
        await began.wait()
        stream.cancel()
        await ended.wait()
    assert ends == [Outcome.ABANDONED]


async def test_a_half_close_in_the_middle_of_an_answer_was_an_abort():
    """That is how Envoy says that the client left during a stream."""
    fake = Fake(head=Streaming())
    async with served(fake) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel)
        await stream.say(response_headers=headers((":status", "200")), protocol_config=FULL)
        await stream.hear()
        await stream.done()
        assert await stream.code() is grpc.StatusCode.OK
    assert [end.outcome for end in fake.ends] == [Outcome.ABANDONED]


async def test_a_long_answer_leaves_in_pieces():
    """A held megabyte goes back in replies of 62,000 bytes at most, with the head first and the end last."""
    body = bytes(range(256)) * 4096
    async with served(Fake(head=Hold())) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel)
        await stream.say(response_headers=headers((":status", "200")), protocol_config=FULL)
        await stream.say(response_body=pb.HttpBody(body=body, end_of_stream=True))
        await stream.done()
        replies = []
        while (reply := await stream.hear()) is not None:
            replies.append(reply)
    first, *others = replies
    assert first.WhichOneof("response") == "response_headers"
    pieces = [reply.response_body.response.body_mutation.streamed_response for reply in others]
    assert b"".join(piece.body for piece in pieces) == body
    assert max(len(piece.body) for piece in pieces) == 62_000
    assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [True]


async def test_a_body_of_the_limit_fits_into_a_message_and_a_longer_one_gets_413():
    """GRPC's own limit of 4 MiB would be a 500."""
    limits = Limits(body_bytes=5 * 1024 * 1024)
    answers = []
    async with served(Fake(), limits=limits) as ports, connected(ports.grpc) as channel:
        for size in (limits.body_bytes, limits.body_bytes + 1):
            stream = Stream(channel)
            await stream.say(request_headers=POST, protocol_config=BUFFERED)
            await stream.hear()
            await stream.say(request_body=pb.HttpBody(body=b"x" * size, end_of_stream=True))
            reply = await stream.hear()
            assert reply is not None
            answers.append((reply.WhichOneof("response"), reply.immediate_response.status.code))
            await stream.done()
            await stream.code()
    assert answers == [("request_body", 0), ("immediate_response", 413)]


async def test_binary_metadata_is_not_text():
    """GRPC's `-bin` entries are left out of the context."""
    fake = Fake()
    async with served(fake) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel, [("x-a", "b"), ("x-bin", b"\x00")])
        await stream.done()
        await stream.code()
    assert fake.contexts[0].get("x-a") == "b"
    assert "x-bin" not in fake.contexts[0]


async def test_many_streams_at_once_do_not_mix():
    """Each has its own exchange."""
    fake = Fake(request=lambda request: Forward(set_headers=(("x-echo", (request.body or b"").decode()),)))
    async with served(fake) as ports, connected(ports.grpc) as channel:

        async def ask(number):
            stream = Stream(channel)
            await stream.say(request_headers=POST, protocol_config=BUFFERED)
            await stream.hear()
            await stream.say(request_body=pb.HttpBody(body=str(number).encode(), end_of_stream=True))
            reply = await stream.hear()
            await stream.done()
            assert reply is not None
            return reply.request_body.response.header_mutation.set_headers[0].header.raw_value

        answers = await asyncio.gather(*(ask(number) for number in range(50)))
    assert answers == [str(number).encode() for number in range(50)]


async def test_a_decision_that_takes_its_time_is_announced_first():
    """Envoy gets the new timeout at once, and the reply when there is one."""
    patient = Patient(30.0)
    async with served(patient) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel)
        await stream.say(request_headers=headers(end=True), protocol_config=pb.ProtocolConfiguration())
        first = await stream.hear()
        patient.go.set()
        second = await stream.hear()
        await stream.done()
        assert await stream.code() is grpc.StatusCode.OK
    assert first is not None
    assert first.override_message_timeout.seconds == 30
    assert first.WhichOneof("response") is None
    assert second is not None
    assert second.request_headers.response.header_mutation.set_headers[0].header.key == "x-a"
    assert [end.outcome for end in patient.ends] == [Outcome.FORWARDED]


@pytest.mark.parametrize("leave", ["done", "cancel"])
async def test_a_client_that_leaves_ends_the_wait_at_once(leave):
    """Envoy half-closes first and resets a second later; either is enough."""
    patient = Patient(30.0)
    async with served(patient) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel)
        await stream.say(request_headers=headers(end=True), protocol_config=pb.ProtocolConfiguration())
        await stream.hear()
        if leave == "done":
            await stream.done()
        else:
            stream.cancel()
        await patient.ended.wait()
    assert patient.left
    assert [end.outcome for end in patient.ends] == [Outcome.ABANDONED]


async def test_a_refusal_after_a_wait_ends_the_stream():
    """Nothing more is owed."""
    patient = Patient(30.0)
    patient.answer = Blocked("no")
    async with served(patient) as ports, connected(ports.grpc) as channel:
        stream = Stream(channel)
        await stream.say(request_headers=headers(end=True), protocol_config=pb.ProtocolConfiguration())
        await stream.hear()
        patient.go.set()
        reply = await stream.hear()
        assert await stream.code() is grpc.StatusCode.OK
    assert reply is not None
    assert reply.immediate_response.status.code == 403
