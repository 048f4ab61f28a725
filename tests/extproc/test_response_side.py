"""Answers in every body mode: passed, streamed, held or refused, and what the client then gets."""

from __future__ import annotations

import pytest

from services.extproc.decisions import Emit, Forward, Hold, Reject, Stream
from services.extproc.errors import Blocked, ProtocolError
from services.extproc.events import Headers, Outcome, ResponseChunk
from services.extproc.messages import Chunk, Continue, Message, Mode, Part, Side
from services.extproc.response_side import ResponseSide
from services.extproc.script import Script, at_every_cut
from tests.extproc.kit import Fake, response_body, response_headers, trailers

BODY = b'{"choices":[]}'
CHANGE = Forward(set_headers=(("x-seen", "1"),), metadata={"gw.safety": {"verdict": "clean"}})
BODY_MODES = ["BUFFERED", "STREAMED", "FULL_DUPLEX_STREAMED"]
HOLDING_MODES = ["BUFFERED", "FULL_DUPLEX_STREAMED"]


@pytest.mark.parametrize("mode", ["NONE", *BODY_MODES])
async def test_a_forwarded_answer_passes_byte_for_byte_wherever_it_is_cut(mode):
    """Only its head is changed."""

    async def run(cut):
        return await Script(Fake(head=CHANGE), response_body=mode).response(body=BODY, cut=cut)

    result = await at_every_cut(run, BODY)
    assert result.body == BODY
    assert result.set_headers == {"x-seen": "1"}
    assert result.metadata == {"gw.safety": {"verdict": "clean"}}
    assert result.complete


async def test_the_head_says_what_came():
    """Status from `:status`, headers, metadata, and that the request was never seen here."""
    fake = Fake()
    served = {"envoy.lb": {"x-gateway-destination-endpoint-served": "10.0.0.1:8000"}}
    await Script(fake).response(404, {"x-a": "1"}, metadata=served, attributes={"response.code": 404.0})
    (head,) = fake.heads
    assert (head.status, head.headers.get("x-a"), head.end, head.request_seen) == (404, "1", True, False)
    assert head.metadata == served
    assert head.attributes == {"response.code": 404.0}


async def test_the_head_says_that_the_request_was_seen():
    """Usage can be counted only for a request of one's own."""
    fake = Fake()
    script = Script(fake)
    await script.request(body=b"x")
    await script.response()
    assert fake.heads[0].request_seen


@pytest.mark.parametrize("status", ["", "abc", "²"])
def test_a_status_that_is_none_is_zero(status):
    """Nothing that an upstream sends can break the stream."""
    side = ResponseSide(Mode.NONE, request_seen=False)
    side.receive(Message(Side.RESPONSE, headers=Headers([(":status", status)])))
    assert side.status == 0


@pytest.mark.parametrize("mode", BODY_MODES)
async def test_a_streamed_answer_is_seen_chunk_by_chunk_and_goes_on_changed(mode):
    """What leaves is what the service emits for each chunk."""

    async def run(cut):
        fake = Fake(head=Stream(CHANGE), chunk=lambda chunk: Emit(chunk.data.upper()))
        result = await Script(fake, response_body=mode).response(body=BODY, cut=cut)
        assert [chunk.end for chunk in fake.chunks] == [False] * (len(fake.chunks) - 1) + [True]
        assert b"".join(chunk.data for chunk in fake.chunks) == BODY
        result.set_headers.pop("content-length", None)  # BUFFERED only
        return result

    result = await at_every_cut(run, BODY)
    assert result.body == BODY.upper()
    assert result.set_headers == {"x-seen": "1"}
    assert result.complete


@pytest.mark.parametrize("mode", ["STREAMED", "FULL_DUPLEX_STREAMED"])
async def test_chunks_can_be_held_back_and_leave_later(mode):
    """`k` in, not `k` out: the hold-back of a matcher leaves with the last chunk."""
    kept = bytearray()

    def hold_back(chunk: ResponseChunk) -> Emit:
        kept.extend(chunk.data)
        return Emit(bytes(kept)) if chunk.end else Emit()

    fake = Fake(head=Stream(), chunk=hold_back)
    result = await Script(fake, response_body=mode).response(body=BODY, cut=[3, 7])
    assert result.body == BODY
    assert result.complete


async def test_a_full_duplex_chunk_that_emits_nothing_gets_no_reply():
    """Replies need not match chunks there, and each costs."""
    side = ResponseSide(Mode.FULL_DUPLEX_STREAMED, request_seen=True)
    side.receive(response_headers())
    side.decide(Stream())
    side.receive(response_body(b"abc"))
    assert side.emit(Emit()).replies == ()
    side.receive(response_body(b"def"))
    metadata = {"gw.safety": {"verdict": "blocked"}}
    assert side.emit(Emit(metadata=metadata)).replies == (Chunk(Side.RESPONSE, b"", metadata=metadata),)


@pytest.mark.parametrize("mode", ["STREAMED", "FULL_DUPLEX_STREAMED"])
async def test_an_answer_can_be_ended_early(mode):
    """A proper end, and what the server still sends is swallowed."""
    fake = Fake(head=Stream(), chunk=lambda _: Emit(b"data: [DONE]\n\n", end=True))
    script = Script(fake, response_body=mode)
    await script.request(body=b"x")
    result = await script.response(body=BODY, cut=[3, 7])
    assert result.body == b"data: [DONE]\n\n"
    assert len(fake.chunks) == 1
    record = script.close()
    assert (record.outcome, record.reason) == (Outcome.REJECTED, "ended_early")


async def test_an_end_where_the_answer_ends_anyway_is_not_early():
    """The service had the last word, but refused nothing."""
    fake = Fake(head=Stream(), chunk=lambda chunk: Emit(chunk.data, end=chunk.end))
    script = Script(fake, response_body="FULL_DUPLEX_STREAMED")
    assert (await script.response(body=BODY)).complete
    assert script.close().outcome is Outcome.FORWARDED


@pytest.mark.parametrize("mode", BODY_MODES)
@pytest.mark.parametrize("head", [Forward(), Stream()], ids=["forward", "stream"])
async def test_trailers_end_the_answer(mode, head):
    """The exchange sees one last, empty chunk; in BUFFERED the whole body was the last."""
    fake = Fake(head=head)
    result = await Script(fake, response_body=mode).response(body=BODY, cut=[4], trailers={"x-t": "1"})
    assert result.body == BODY
    assert result.complete
    if head != Forward():
        assert [chunk.end for chunk in fake.chunks] == [False] * (len(fake.chunks) - 1) + [True]


async def test_what_was_held_back_leaves_before_the_trailers():
    """Full duplex: a chunk without end of stream, then the trailers."""
    fake = Fake(head=Stream(), chunk=lambda chunk: Emit(b"tail" if chunk.end else b""))
    script = Script(fake, response_body="FULL_DUPLEX_STREAMED")
    assert (await script.response(body=BODY, trailers={})).body == b"tail"


async def test_what_was_held_back_cannot_leave_with_streamed_trailers():
    """There is no message left that could carry it, and losing it silently is no option."""
    fake = Fake(head=Stream(), chunk=lambda chunk: Emit(b"tail" if chunk.end else b""))
    script = Script(fake, response_body="STREAMED")
    with pytest.raises(ProtocolError, match="4 bytes held back"):
        await script.response(body=BODY, trailers={})


async def test_a_changed_buffered_chunk_says_its_length():
    """Envoy compares it with content-length."""
    fake = Fake(head=Stream(), chunk=lambda _: Emit(b"12345"))
    assert (await Script(fake, response_body="BUFFERED").response(body=BODY)).set_headers == {
        "content-length": "5"
    }


@pytest.mark.parametrize("mode", HOLDING_MODES)
async def test_a_held_answer_is_decided_whole_wherever_it_is_cut(mode):
    """Head and body wait; both can still change."""

    async def run(cut):
        fake = Fake(head=Hold(), body=CHANGE)
        result = await Script(fake, response_body=mode).response(body=BODY, cut=cut)
        assert fake.bodies == [BODY]
        return result

    result = await at_every_cut(run, BODY)
    assert result.body == BODY
    assert result.set_headers == {"x-seen": "1"}
    assert result.complete


@pytest.mark.parametrize(("mode", "headers"), [("BUFFERED", {"content-length": "3"}), ("STREAMED", None)])
async def test_a_held_body_can_be_replaced(mode, headers):
    """With a length that is right where Envoy keeps the header."""
    mode = "FULL_DUPLEX_STREAMED" if headers is None else mode
    result = await Script(Fake(head=Hold(), body=Forward(body=b"new")), response_body=mode).response(
        body=BODY
    )
    assert result.body == b"new"
    assert result.set_headers == (headers or {})


@pytest.mark.parametrize("mode", HOLDING_MODES)
async def test_a_held_answer_can_be_refused(mode):
    """The client gets the refusal alone: nothing of the answer has left."""
    reject = Reject(403, b"no")
    script = Script(Fake(head=Hold(), body=reject), response_body=mode)
    result = await script.response(body=BODY, cut=[3] if mode != "BUFFERED" else [])
    assert result.rejected == reject
    assert result.body == b""
    assert script.close().outcome is Outcome.REJECTED


@pytest.mark.parametrize("mode", HOLDING_MODES)
async def test_a_refusal_may_be_raised(mode):
    """As on requests."""
    result = await Script(Fake(head=Hold(), body=Blocked("secret")), response_body=mode).response(body=BODY)
    assert result.rejected == Reject(403, b"secret", details="blocked")


@pytest.mark.parametrize("mode", ["NONE", "STREAMED", *HOLDING_MODES])
async def test_an_answer_without_a_body_can_be_held_in_every_mode(mode):
    """Nothing has left when the head is all there is."""
    fake = Fake(head=Hold(), body=CHANGE)
    result = await Script(fake, response_body=mode).response(204)
    assert fake.bodies == [b""]
    assert result.set_headers == {"x-seen": "1"}
    assert result.complete


@pytest.mark.parametrize("mode", HOLDING_MODES)
async def test_trailers_end_a_held_answer(mode):
    """Chunks without end of stream, then the trailers."""
    result = await Script(Fake(head=Hold(), body=CHANGE), response_body=mode).response(body=BODY, trailers={})
    assert result.body == BODY
    assert result.set_headers == {"x-seen": "1"}
    assert result.complete


@pytest.mark.parametrize("mode", HOLDING_MODES)
async def test_an_answer_over_the_limit_of_its_hold_is_refused_unless_the_service_lets_it_pass(mode):
    """The default is 502; letting it pass sends on what was held and all that follows."""
    refused = await Script(Fake(head=Hold(limit=5)), response_body=mode).response(body=BODY, cut=[4, 8])
    assert refused.rejected == Reject(502, details="response_too_large")

    fake = Fake(head=Hold(limit=5), overflow=CHANGE)
    passed = await Script(fake, response_body=mode).response(body=BODY, cut=[4, 8])
    assert passed.body == BODY
    assert passed.set_headers == {"x-seen": "1"}
    assert passed.complete
    assert fake.bodies == [BODY[:8] if mode == "FULL_DUPLEX_STREAMED" else BODY]


@pytest.mark.parametrize("mode", ["NONE", "STREAMED"])
async def test_a_filter_that_cannot_hold_does_not_pretend(mode):
    """Envoy has sent the head: the stream ends with an error."""
    with pytest.raises(ProtocolError, match=f"Hold needs .* has {mode}"):
        await Script(Fake(head=Hold()), response_body=mode).response(body=BODY)


async def test_a_filter_that_sees_no_body_cannot_stream():
    """Mode NONE."""
    with pytest.raises(ProtocolError, match="Stream needs a response body mode"):
        await Script(Fake(head=Stream())).response(body=BODY)


async def test_stream_carries_no_body():
    """Its chunks do; a service that says both is wrong."""
    script = Script(Fake(head=Stream(Forward(body=b"x"))), response_body="FULL_DUPLEX_STREAMED")
    with pytest.raises(ProtocolError, match="Stream cannot carry a body"):
        await script.response(body=BODY)


async def test_stream_of_an_answer_without_body_asks_for_no_chunk():
    """There is none."""
    fake = Fake(head=Stream(CHANGE))
    result = await Script(fake, response_body="FULL_DUPLEX_STREAMED").response(204)
    assert fake.chunks == []
    assert result.set_headers == {"x-seen": "1"}


@pytest.mark.parametrize("mode", ["NONE", *BODY_MODES])
async def test_an_answer_can_be_refused_on_its_head(mode):
    """Before anything has left."""
    reject = Reject(502, b"bad gateway")
    assert (await Script(Fake(head=reject), response_body=mode).response(body=BODY)).rejected == reject


@pytest.mark.parametrize("mode", ["STREAMED", "FULL_DUPLEX_STREAMED"])
async def test_a_refusal_in_the_middle_of_a_stream_ends_it_with_an_error(mode):
    """The head has gone; passing the rest silently would be worse."""
    script = Script(Fake(head=Stream(), chunk=Blocked("secret")), response_body=mode)
    with pytest.raises(ProtocolError, match="can no longer be refused"):
        await script.response(body=BODY)
    assert script.close().outcome is Outcome.FAILED


@pytest.mark.parametrize("mode", BODY_MODES)
async def test_a_body_can_be_replaced_unseen(mode):
    """Said with the head; the first message carries it."""

    async def run(cut):
        return await Script(Fake(head=Forward(body=b"new")), response_body=mode).response(body=BODY, cut=cut)

    assert (await at_every_cut(run, BODY)).body == b"new"


async def test_replies_after_an_early_streamed_end_are_one_to_one():
    """STREAMED owes every message a reply: emptied chunks, plain trailers."""
    side = ResponseSide(Mode.STREAMED, request_seen=True)
    side.receive(response_headers())
    side.decide(Stream())
    side.receive(response_body(b"abc"))
    side.emit(Emit(b"end", end=True))
    assert side.receive(response_body(b"def")).replies == (
        Continue(Side.RESPONSE, Part.BODY, Forward(body=b"")),
    )
    assert side.receive(trailers(Side.RESPONSE)).replies == (Continue(Side.RESPONSE, Part.TRAILERS),)


async def test_after_an_early_full_duplex_end_nothing_is_owed():
    """Envoy has closed the server's connection; a reply would be spurious."""
    side = ResponseSide(Mode.FULL_DUPLEX_STREAMED, request_seen=True)
    side.receive(response_headers())
    side.decide(Stream())
    side.receive(response_body(b"abc"))
    assert side.emit(Emit(b"end", end=True)).replies == (Chunk(Side.RESPONSE, b"end", end=True),)
    assert side.receive(response_body(b"def", end=True)).replies == ()
