"""A request that went on is taken back while its answer has not begun, over real gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from services.extproc.budget import Budget
from services.extproc.conversation import Conversation
from services.extproc.decisions import Forward, Reject
from services.extproc.errors import ProtocolError
from services.extproc.events import Headers, Outcome, Request
from services.extproc.messages import Continue, Message, Mode, Modes, Part, Side
from services.extproc.script import HELD_BYTES, Recorder
from services.extproc.session import Session
from services.pb import extproc_pb2 as pb
from tests.extproc.kit import Lender
from tests.extproc.live import Stream, connected, headers, served

NONE = pb.ProtocolConfiguration()
POST = headers((":method", "POST"), (":path", "/v1/chat/completions"))
OK = headers((":status", "200"))


async def sent(lender: Lender, channel: grpc.aio.Channel) -> Stream:
    """Open a stream whose request has gone on."""
    stream = Stream(channel)
    await stream.say(request_headers=POST, protocol_config=NONE)
    if lender.waits:
        more = await stream.hear()
        assert more is not None
        assert more.override_message_timeout.seconds == 5
    reply = await stream.hear()
    assert reply is not None
    assert reply.WhichOneof("response") == "request_headers"
    return stream


@pytest.mark.parametrize("waits", [False, True])
async def test_a_request_is_taken_back_in_the_services_own_words(waits):
    """Without a message of Envoy's to answer; then nothing more is owed."""
    lender = Lender(waits=waits)
    async with served(lender) as ports, connected(ports.grpc) as channel:
        stream = await sent(lender, channel)
        lender.taken.set()
        reply = await stream.hear()
        assert reply is not None
        assert reply.immediate_response.status.code == 429
        assert await stream.code() is grpc.StatusCode.OK
    assert [(end.outcome, end.reason) for end in lender.ends] == [(Outcome.REJECTED, "evicted")]


@pytest.mark.parametrize("waits", [False, True])
async def test_an_answer_that_begins_ends_the_chance(waits):
    """Nobody waits any more; what is decided later changes nothing."""
    lender = Lender(waits=waits)
    async with served(lender) as ports, connected(ports.grpc) as channel:
        stream = await sent(lender, channel)
        await stream.say(response_headers=OK)
        reply = await stream.hear()
        lender.taken.set()
        await stream.done()
        assert await stream.hear() is None
        assert await stream.code() is grpc.StatusCode.OK
    assert reply is not None
    assert reply.WhichOneof("response") == "response_headers"
    assert lender.cancelled == 1
    assert [head.status for head in lender.heads] == [200]
    assert [end.outcome for end in lender.ends] == [Outcome.FORWARDED]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("resets", [False, True])
async def test_a_client_that_leaves_ends_the_wait(resets, waits):
    """Envoy half-closes, or resets."""
    lender = Lender(waits=waits)
    async with served(lender) as ports, connected(ports.grpc) as channel:
        stream = await sent(lender, channel)
        if resets:
            stream.cancel()
        else:
            await stream.done()
        await lender.ended.wait()
    assert lender.cancelled == 1
    assert len(lender.ends) == 1


@pytest.mark.parametrize("waits", [False, True])
async def test_nothing_is_waited_for_after_the_last_word(waits):
    """The server closes the stream, where no body mode makes Envoy need it."""
    lender = Lender(last=True, waits=waits)
    async with served(lender) as ports, connected(ports.grpc) as channel:
        stream = await sent(lender, channel)
        assert await stream.hear() is None
        assert await stream.code() is grpc.StatusCode.OK
    assert [end.outcome for end in lender.ends] == [Outcome.FORWARDED]


@pytest.mark.parametrize("order", ["head first", "taken first"])
async def test_a_head_that_comes_in_the_very_moment_is_refused(order):
    """Both are there before anybody looks: the client gets one answer, ours."""
    lender = Lender()
    conversation = Conversation(lender, {}, body_limit=9, budget=Budget(HELD_BYTES), observer=Recorder())
    asked = Message(Side.REQUEST, headers=Headers([(":method", "GET")]), end=True, modes=Modes())
    assert await conversation.receive(asked) == (Continue(Side.REQUEST, Part.HEADERS),)
    chances = [conversation.revocable]
    head = Message(Side.RESPONSE, headers=Headers([(":status", "200")]))
    async with asyncio.TaskGroup() as group:
        revoking = group.create_task(conversation.revoked())
        await asyncio.sleep(0)
        lender.taken.set()
        if order == "head first":
            revoking.cancel()
            (reply,) = await conversation.receive(head)
        else:
            (reply,) = await revoking
            assert await conversation.receive(head) == ()

    assert isinstance(reply, Reject)
    assert reply.status == 429
    assert (conversation.over, [*chances, conversation.revocable]) == (True, [True, False])
    conversation.close()
    assert [(end.outcome, end.reason) for end in lender.ends] == [(Outcome.REJECTED, "evicted")]


def session(**modes: Any) -> Session:
    """Return a session whose request waits for its decision."""
    session = Session(body_limit=9, decides_on_headers=lambda _: True)
    asked = session.receive(Message(Side.REQUEST, headers=Headers(), modes=Modes(**modes))).ask
    assert isinstance(asked, Request)
    return session


def test_an_answer_is_awaited_from_the_decision_to_the_head():
    """Before, the request can be refused; after, only the answer."""
    one, two = session(), session()
    awaited = [one.awaits_answer]
    one.answer(Forward())
    awaited.append(one.awaits_answer)
    one.receive(Message(Side.RESPONSE, headers=Headers([(":status", "200")])))
    two.answer(Reject(400))
    assert [*awaited, one.awaits_answer, two.awaits_answer] == [False, True, False, False]


def test_an_answer_whose_head_has_gone_is_not_refused():
    """Envoy would cut the client off."""
    one = session()
    one.answer(Forward())
    one.receive(Message(Side.RESPONSE, headers=Headers([(":status", "200")])))
    one.answer(Forward())
    with pytest.raises(ProtocolError, match="has gone"):
        one.answer(Reject(429))


@pytest.mark.parametrize(
    ("modes", "over"),
    [({}, True), ({"request": Mode.BUFFERED}, False), ({"response": Mode.FULL_DUPLEX_STREAMED}, False)],
)
def test_a_last_word_ends_the_stream_only_where_no_body_passes(modes, over):
    """Else Envoy would lose what it has sent here."""
    one = session(**modes)
    one.answer(Forward(last=True))
    assert one.over is over
    assert one.outcome() is (Outcome.FORWARDED if over else Outcome.ABANDONED)
