"""Requests in every body mode: when they are decided, and what Envoy then sends on."""

from __future__ import annotations

import pytest

from services.extproc.decisions import Forward, Reject
from services.extproc.errors import BadRequest, ProtocolError
from services.extproc.messages import Chunk, Continue, Message, Mode, Modes, Part, Side
from services.extproc.request_side import RequestSide
from services.extproc.script import Script, at_every_cut
from services.extproc.turns import NOTHING
from tests.extproc.kit import Fake, request_body, request_headers, trailers

BODY = b'{"model":"llama"}'
CHANGE = Forward(
    set_headers=(("x-model", "llama"),),
    remove_headers=("x-gone",),
    metadata={"gw.bbr": {"digest": "d"}},
    reroute=True,
)
HELD_HEADERS = [("BUFFERED", False), ("FULL_DUPLEX_STREAMED", False), ("STREAMED", True)]
"""Mode and early flag of the filters in which the head can change after the body was read."""
EVERY_MODE = [*HELD_HEADERS, ("STREAMED", False)]


@pytest.mark.parametrize(("mode", "early"), EVERY_MODE)
async def test_a_body_is_decided_once_and_goes_on_as_it_came_wherever_it_is_cut(mode, early):
    """The service sees the whole body, Envoy sends on the same bytes."""
    seen: list[bytes | None] = []

    async def run(cut):
        fake = Fake(request=CHANGE)
        result = await Script(fake, request_body=mode, early=early).request(body=BODY, cut=cut)
        seen.extend(request.body for request in fake.requests)
        return result

    result = await at_every_cut(run, BODY)

    assert set(seen) == {BODY}
    assert len(seen) == len(BODY) + 2  # one decision per run: whole, whole again, each cut, all cuts
    assert result.body == BODY
    assert result.complete
    assert result.metadata == {"gw.bbr": {"digest": "d"}}


@pytest.mark.parametrize("new", [b"x", b"y" * 100, b""], ids=["shorter", "longer", "empty"])
@pytest.mark.parametrize(("mode", "early"), EVERY_MODE)
async def test_a_replaced_body_is_replaced_wherever_it_was_cut(mode, early, new):
    """Not one byte of the old one goes on."""

    async def run(cut):
        fake = Fake(request=Forward(body=new))
        return await Script(fake, request_body=mode, early=early).request(body=BODY, cut=cut)

    result = await at_every_cut(run, BODY)

    assert result.body == new
    assert result.complete


@pytest.mark.parametrize(("mode", "early"), HELD_HEADERS)
async def test_the_head_can_change_after_the_body(mode, early):
    """Because its reply is withheld, or because BUFFERED allows it in the body's reply."""
    result = await Script(Fake(request=CHANGE), request_body=mode, early=early).request(body=BODY, cut=[3])
    assert result.set_headers == {"x-model": "llama"}
    assert result.remove_headers == ("x-gone",)
    assert result.reroute


async def test_streamed_without_the_early_flag_drops_header_changes_and_says_so():
    """Envoy has sent the head before the body comes; metadata still arrives."""
    script = Script(Fake(request=CHANGE), request_body="STREAMED")
    result = await script.request(body=BODY, cut=[3])
    assert result.set_headers == {}
    assert result.metadata == {"gw.bbr": {"digest": "d"}}
    assert script.close().dropped_headers


@pytest.mark.parametrize(("mode", "early"), HELD_HEADERS)
async def test_nothing_is_said_to_be_dropped_where_nothing_was(mode, early):
    """The flag is for the misconfigured filter alone."""
    script = Script(Fake(request=CHANGE), request_body=mode, early=early)
    await script.request(body=BODY)
    assert not script.close().dropped_headers


@pytest.mark.parametrize("mode", ["NONE", "STREAMED", "BUFFERED", "FULL_DUPLEX_STREAMED"])
async def test_a_request_without_a_body_is_decided_on_its_headers(mode):
    """A GET ends on its headers: no body message will come."""
    fake = Fake(request=CHANGE)
    result = await Script(fake, request_body=mode).request({":method": "GET"})
    assert [request.body for request in fake.requests] == [b""]
    assert result.set_headers == {"x-model": "llama"}
    assert result.complete


async def test_a_body_that_is_not_shown_is_none():
    """Mode NONE: the request is decided at once, and its body is not empty but unknown."""
    fake = Fake(request=CHANGE)
    result = await Script(fake, request_body="NONE").request(body=BODY)
    assert [request.body for request in fake.requests] == [None]
    assert result.set_headers == {"x-model": "llama"}
    assert result.complete


@pytest.mark.parametrize(("mode", "early"), EVERY_MODE)
async def test_a_request_can_be_decided_before_its_body(mode, early):
    """`decides_on_headers`: head at once, body passes unseen, also where the head could not wait."""

    async def run(cut):
        fake = Fake(request=CHANGE, on_headers=True)
        result = await Script(fake, request_body=mode, early=early).request(body=BODY, cut=cut)
        assert [request.body for request in fake.requests] == [None]
        return result

    result = await at_every_cut(run, BODY)
    assert result.set_headers == {"x-model": "llama"}
    assert result.body == BODY
    assert result.complete


@pytest.mark.parametrize(("mode", "early"), EVERY_MODE)
async def test_a_body_can_be_replaced_unseen(mode, early):
    """The first message carries the new body, the others are emptied."""

    async def run(cut):
        fake = Fake(request=Forward(body=b"new"), on_headers=True)
        return await Script(fake, request_body=mode, early=early).request(body=BODY, cut=cut)

    assert (await at_every_cut(run, BODY)).body == b"new"


@pytest.mark.parametrize("on_headers", [False, True])
async def test_a_buffered_body_of_another_length_says_its_length(on_headers):
    """Envoy answers 500 when content-length and body disagree; it takes the header in the same reply only."""
    fake = Fake(request=Forward(body=b"12345"), on_headers=on_headers)
    result = await Script(fake).request(body=BODY)
    assert result.set_headers == {"content-length": "5"}


async def test_an_unchanged_buffered_body_keeps_its_length_header():
    """No change, no header."""
    assert (await Script(Fake()).request(body=BODY)).set_headers == {}


@pytest.mark.parametrize("mode", ["STREAMED", "FULL_DUPLEX_STREAMED"])
async def test_only_a_buffered_body_sets_content_length(mode):
    """In the other modes Envoy removes it, and a wrong one is a smuggling risk."""
    fake = Fake(request=Forward(body=b"12345"))
    assert (await Script(fake, request_body=mode, early=True).request(body=BODY)).set_headers == {}


async def test_a_buffered_body_of_unknown_length_gets_no_length():
    """A chunked request stays chunked."""
    side = RequestSide(Modes(Mode.BUFFERED), 100, lambda _: False)
    side.receive(request_headers())
    side.receive(request_body(b"abc", end=True))
    (reply,) = side.release(Forward(body=b"x")).replies
    assert isinstance(reply, Continue)
    assert reply.forward.set_headers == ()


@pytest.mark.parametrize("body", [BODY, b""])
@pytest.mark.parametrize("mode", ["BUFFERED", "FULL_DUPLEX_STREAMED"])
async def test_trailers_end_the_body(mode, body):
    """They come instead of an end of stream, get their own reply, and the body must not end before them."""
    fake = Fake(request=CHANGE)
    script = Script(fake, request_body=mode)
    result = await script.request(body=body, cut=[4] if body else [], empty_last=False, trailers={"x-t": "1"})
    assert [request.body for request in fake.requests] == [body]
    assert result.complete
    assert result.body == body


async def test_a_buffered_body_before_trailers_is_decided_without_its_end():
    """Envoy sends it whole with `end_of_stream` false and waits for the reply before it sends the trailers."""
    side = RequestSide(Modes(Mode.BUFFERED), 100, lambda _: False)
    side.receive(request_headers(length=3))
    turn = side.receive(request_body(b"abc"))
    assert turn.ask == side.request
    side.release(CHANGE)
    assert side.receive(trailers(Side.REQUEST)).replies == (Continue(Side.REQUEST, Part.TRAILERS),)
    assert side.complete


async def test_a_full_duplex_body_before_trailers_never_ends_itself():
    """`end_of_stream` and trailers together hang the request."""
    side = RequestSide(Modes(Mode.FULL_DUPLEX_STREAMED), 100, lambda _: False)
    assert side.receive(request_headers()) == NOTHING
    assert side.receive(request_body(b"abc")) == NOTHING
    assert side.receive(trailers(Side.REQUEST)).ask
    assert side.release(Forward()).replies == (
        Continue(Side.REQUEST, Part.HEADERS),
        Chunk(Side.REQUEST, b"abc", end=False),
        Continue(Side.REQUEST, Part.TRAILERS),
    )


async def test_a_body_that_came_in_one_piece_is_not_copied():
    """Bodies are megabytes: the service sees the very bytes of the message."""
    fake = Fake()
    body = bytes(1000)
    await Script(fake).request(body=body)
    assert fake.requests[0].body is body


async def test_metadata_that_came_with_the_end_of_the_body_is_seen():
    """An earlier filter may set it only when it has read the body itself."""
    fake = Fake()
    script = Script(fake, request_body="FULL_DUPLEX_STREAMED")
    await script.send(request_headers())
    late = {"gw.bbr": {"digest": "late"}}
    await script.send(Message(Side.REQUEST, Part.BODY, data=b"x", end=True, metadata=late))
    assert fake.requests[0].metadata == late


@pytest.mark.parametrize(("mode", "early"), EVERY_MODE)
async def test_a_request_can_be_refused_after_its_body(mode, early):
    """Nothing reaches the model server, or Envoy takes back what did."""
    reject = Reject(400, b"no")
    script = Script(Fake(request=reject), request_body=mode, early=early)
    assert (await script.request(body=BODY, cut=[5])).rejected == reject


@pytest.mark.parametrize(("mode", "early"), EVERY_MODE)
async def test_a_body_over_the_limit_is_refused_as_soon_as_it_is(mode, early):
    """413, in the words of the service, and no more is held than the limit and one message."""
    fake = Fake()
    script = Script(fake, request_body=mode, early=early, body_limit=10)
    result = await script.request(body=BODY, cut=[4, 8, 12])
    assert result.rejected is not None
    assert result.rejected.status == 413
    assert fake.requests == []
    assert script.close().reason == "too_large"


async def test_a_body_of_exactly_the_limit_passes():
    """The limit is what is still allowed."""
    assert (await Script(Fake(), body_limit=len(BODY)).request(body=BODY)).complete


async def test_a_raised_refusal_is_put_into_the_services_words():
    """The exchange raises, the service phrases."""
    script = Script(Fake(request=BadRequest("what?")))
    rejected = (await script.request(body=BODY)).rejected
    assert rejected == Reject(400, b"what?", details="bad_request")


@pytest.mark.parametrize("mode", ["BUFFERED", "FULL_DUPLEX_STREAMED"])
async def test_body_after_the_end_is_ignored(mode):
    """Some Envoys repeat the last message of long bodies."""
    script = Script(Fake(), request_body=mode)
    result = await script.request(body=BODY)
    side = RequestSide(Modes(Mode[mode]), 100, lambda _: False)
    side.receive(request_headers(end=True))
    side.release(Forward())
    assert side.receive(request_body(b"again", end=True)) == NOTHING
    assert result.body == BODY


@pytest.mark.parametrize(("mode", "body"), [("NONE", BODY), ("BUFFERED", b""), ("FULL_DUPLEX_STREAMED", b"")])
async def test_a_body_that_does_not_pass_here_cannot_be_replaced(mode, body):
    """A filter that cannot do it must not pretend."""
    with pytest.raises(ProtocolError, match="no request body that could be replaced"):
        await Script(Fake(request=Forward(body=b"new")), request_body=mode).request(body=body)


async def test_a_new_body_without_a_message_to_carry_it_is_an_error():
    """STREAMED replies are one to one, and there was no chunk."""
    script = Script(Fake(request=Forward(body=b"new")), request_body="STREAMED")
    with pytest.raises(ProtocolError, match="no request body message"):
        await script.request(body=b"", empty_last=False, trailers={})
