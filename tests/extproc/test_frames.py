"""What real Envoy says, as the wire and the session read it."""

from __future__ import annotations

import envoy_data_plane.envoy.service.ext_proc.v3 as api
import pytest

from services.extproc import wire
from services.extproc.decisions import Emit, Forward, Stream
from services.extproc.events import Request, ResponseChunk, ResponseHead
from services.extproc.messages import Mode, Modes, Part, Reply, Side
from services.extproc.session import Session
from services.extproc.turns import Decision, HeldBody, Overflow, Question, Refusal, Revocation, Waiting
from tests.e2e.harness.backend import EVENTS, HALVES
from tests.frames.frames import NAMES, kinds, messages
from tests.frames.scenarios import DIGEST, JSON

REFUSAL = b'{"error": {"message": "refused"}}'
EVENT_CHUNKS = [(EVENTS[0], False), (EVENTS[1], False), (b"", True)]

# Scenario → the body that the request is decided with: None, a body that this filter does not see.
REQUESTS = {
    "request-get": b"",
    "request-empty": b"",
    "request-empty-chunked": b"",
    "request-headers-only": None,
    "request-buffered": JSON,
    "request-streamed": JSON,
    "request-streamed-early": JSON,
    "request-full-duplex": JSON,
    "request-full-duplex-h2": JSON,
    "request-trailers": JSON,
    "request-streamed-trailers": JSON,
    "request-repeated-headers": None,
    "request-metadata": None,
    "request-attributes": None,
    "response-local": None,
    "both-sides": JSON,
    "both-sides-headers": b"",
    "both-sides-served": None,
}

# Scenario → status, whether the request was seen, and the chunks with their ends.
RESPONSES = {
    "response-headers-only": (200, False, []),
    "response-empty": (204, False, []),
    "response-buffered": (200, False, [(HALVES, True)]),
    "response-streamed": (200, False, EVENT_CHUNKS),
    "response-full-duplex": (200, False, EVENT_CHUNKS),
    "response-trailers": (200, False, [(HALVES, False), (b"", True)]),
    "response-first": (404, False, [(REFUSAL, True)]),
    "response-first-both-sides": (404, False, [(REFUSAL, True)]),
    "both-sides": (200, True, EVENT_CHUNKS),
    "both-sides-headers": (200, True, []),
    "both-sides-served": (200, True, []),
}


def play(name: str) -> tuple[list[Question], list[api.ProcessingResponse]]:
    """Return what a session asks of an exchange that lets all pass, and what it sends, read by the full API."""
    session = Session(body_limit=1 << 20, decides_on_headers=lambda _: False)
    asked: list[Question] = []
    sent: list[Reply] = []
    for raw in messages(name):
        turn = session.receive(wire.decode(raw))
        sent += turn.replies
        while turn.ask is not None:
            asked.append(turn.ask)
            turn = session.answer(passing(turn.ask, body=session_has_body(name)))
            sent += turn.replies
    return asked, [api.ProcessingResponse.parse(data) for reply in sent for data in wire.encode(reply)]


def the_request(name: str) -> Request:
    (request,) = (question for question in play(name)[0] if isinstance(question, Request))
    return request


def the_head(name: str) -> ResponseHead:
    (head,) = (question for question in play(name)[0] if isinstance(question, ResponseHead))
    return head


def session_has_body(name: str) -> bool:
    return "response_body" in kinds(name)


def passing(question: Question, *, body: bool) -> Decision:
    """Answer so that everything goes on as it came, and every chunk is seen."""
    match question:
        case Request():
            return Forward()
        case ResponseHead():
            return Stream() if body else Forward()
        case ResponseChunk(data):
            return Emit(data)
        case HeldBody() | Overflow() | Refusal() | Waiting() | Revocation():
            raise AssertionError(question)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_decided_once_with_its_body(name):
    """Whatever the mode and however the body is cut."""
    asked, _ = play(name)
    assert [question.body for question in asked if isinstance(question, Request)] == [REQUESTS[name]]


@pytest.mark.parametrize("name", RESPONSES)
def test_an_answer_is_a_head_and_its_chunks(name):
    """The last chunk ends the answer, also when it is empty or trailers follow."""
    asked, _ = play(name)
    (head,) = (question for question in asked if isinstance(question, ResponseHead))
    chunks = [(question.data, question.end) for question in asked if isinstance(question, ResponseChunk)]
    assert (head.status, head.request_seen, chunks) == RESPONSES[name]


@pytest.mark.parametrize("name", [name for name in NAMES if "observed" not in name])
def test_every_message_that_is_owed_a_reply_gets_its_own_kind(name):
    """Replies come in the order of the messages; full-duplex bodies come back whole, in chunks of their own."""
    _, sent = play(name)
    replied = [kind for reply in sent for kind in KINDS if getattr(reply, kind) is not None]
    assert sorted(set(replied), key=KINDS.index) == sorted(set(kinds(name)), key=KINDS.index)
    assert replied == sorted(replied, key=KINDS.index)


KINDS = [f"{side}_{part}" for side in ("request", "response") for part in ("headers", "body", "trailers")]


@pytest.mark.parametrize(
    ("name", "part", "body", "end"),
    [
        ("request-full-duplex", "request_body", JSON, True),
        ("request-full-duplex-h2", "request_body", JSON, True),
        ("request-empty-chunked", "request_body", b"", True),
        # The end is in the trailers then; a body that also ended would hang the request.
        ("request-trailers", "request_body", JSON, False),
        ("response-full-duplex", "response_body", b"".join(EVENTS), True),
        ("response-trailers", "response_body", HALVES, False),
        ("both-sides", "response_body", b"".join(EVENTS), True),
    ],
)
def test_a_full_duplex_body_goes_back_whole(name, part, body, end):
    """Byte for byte, with the end where Envoy wants it."""
    _, sent = play(name)
    bodies = [piece for reply in sent if (piece := getattr(reply, part)) is not None]
    chunks = [piece.response.body_mutation.streamed_response for piece in bodies]
    assert b"".join(chunk.body for chunk in chunks) == body
    assert [chunk.end_of_stream for chunk in chunks] == [False] * (len(chunks) - 1) + [end]


@pytest.mark.parametrize("name", ["request-observed", "response-observed"])
def test_an_observer_answers_nothing(name):
    """Envoy wants no reply, and would take one for an error."""
    assert play(name)[1] == []


def test_header_names_repeat_and_any_byte_survives():
    """Values are in `raw_value`; what is not UTF-8 is kept by surrogates."""
    headers = wire.decode(messages("request-repeated-headers")[0]).headers
    assert headers.all("x-mixed") == ("a", "b")
    assert headers.all("cookie") == ("c=1", "d=2")
    assert headers.all("x-latin")[0].encode("utf-8", "surrogateescape") == b"caf\xe9"
    assert headers.get(":method") == "POST"


def test_metadata_of_an_earlier_filter_comes_with_the_request():
    """The digest is where BBR put it."""
    assert the_request("request-metadata").metadata == DIGEST


def test_attributes_come_under_their_own_names():
    """Whatever Envoy calls the group they are in."""
    expected = {"xds.route_name": "the-route", "xds.cluster_name": "backend", "request.path": "/sha1"}
    assert the_request("request-attributes").attributes == expected


def test_the_head_of_an_answer_says_who_served():
    """The load balancer's feedback and the details of the answer come with its head."""
    head = the_head("both-sides-served")
    lb = head.metadata["envoy.lb"]
    assert lb["x-gateway-destination-endpoint-served"] == lb["x-gateway-destination-endpoint"]
    assert head.attributes == {"response.code": 200.0, "response.code_details": "via_upstream"}


def test_envoys_own_answer_is_told_apart_by_its_details():
    """A 503 of a model server would be `via_upstream`."""
    head = the_head("response-local")
    assert head.status == 503
    assert str(head.attributes["response.code_details"]).startswith("upstream_reset_before_response_started")


def test_the_first_message_carries_the_modes():
    """And no other does, so a session learns them once."""
    first, *others = (wire.decode(raw) for raw in messages("both-sides"))
    assert first.modes == Modes(Mode.BUFFERED, Mode.FULL_DUPLEX_STREAMED)
    assert [message.modes for message in others] == [None] * 5
    early = wire.decode(messages("request-streamed-early")[0])
    assert early.modes == Modes(Mode.STREAMED, Mode.NONE, early=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_subset_reads_what_the_full_api_reads(name):
    """Side, part, end and body bytes of every message agree with Envoy's complete definitions."""
    for raw, kind in zip(messages(name), kinds(name), strict=True):
        ours, full = wire.decode(raw), getattr(api.ProcessingRequest.parse(raw), kind)
        side, part = kind.split("_")
        assert (ours.side, ours.part) == (Side(side), Part(part))
        assert ours.data == getattr(full, "body", b"")
        assert ours.end == getattr(full, "end_of_stream", False)
