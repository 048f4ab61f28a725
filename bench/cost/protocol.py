"""ext_proc without gRPC: bytes of messages in, bytes of replies out, for one exchange in each body mode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from bench.cost.prompts import SIZES, label
from bench.cost.timing import Case
from services.extproc import wire
from services.extproc.decisions import Emit, Forward, Stream
from services.extproc.events import Metadata, Request, ResponseChunk, ResponseHead
from services.extproc.messages import Continue, Part, Side
from services.extproc.session import Session
from services.extproc.turns import Decision, Question
from services.pb import extproc_pb2 as pb

CHUNK = 50_000  # bytes; about what Envoy sends at once of a long body
EVENTS = 20
EVENT = b"data: " + b"x" * 180 + b"\n\n"
LIMIT = 16 * 1024 * 1024
HEADERS = {
    ":method": "POST",
    ":path": "/v1/chat/completions",
    ":scheme": "http",
    ":authority": "gateway",
    "content-type": "application/json",
    "user-agent": "OpenAI/Python",
    "authorization": "Bearer token",
    "x-request-id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "x-forwarded-for": "127.0.0.1",
}
ROUTED = Forward(
    set_headers=(("x-gateway-model-name", "llama"), ("x-gateway-base-model-name", "llama")),
    metadata={"gw.bbr": {"digest": "x" * 400}},
    reroute=True,
)


def cases() -> Iterator[Case]:
    """Yield the codec alone, then whole exchanges."""
    head = request_headers("BUFFERED")
    yield Case("wire", "decode request headers", partial(wire.decode, head))
    for size in SIZES:
        message = body(b"x" * size, end=True)
        yield Case("wire", f"decode a body of {label(size)}", partial(wire.decode, message))
    reply = Continue(Side.REQUEST, Part.BODY, ROUTED)
    yield Case("wire", "encode a reply with two headers and a digest", partial(_encoded, reply))
    yield Case("session", "request, headers only", partial(_exchange, [request_headers("NONE")]))
    for size in SIZES:
        whole, pieces = b"x" * size, _chunks(size)
        for mode, bodies in (("BUFFERED", [whole]), ("STREAMED", pieces), ("FULL_DUPLEX_STREAMED", pieces)):
            messages = [request_headers(mode), *_bodies(bodies)]
            yield Case("session", f"request, {mode}, {label(size)}", partial(_exchange, messages))
    events = [response_headers(), *(response_body(EVENT, end=index == EVENTS - 1) for index in range(EVENTS))]
    yield Case("session", "answer, per streamed chunk", partial(_exchange, events), units=EVENTS)


def _exchange(messages: Iterable[bytes]) -> list[bytes]:
    session = Session(body_limit=LIMIT, decides_on_headers=lambda _: False)
    sent: list[bytes] = []
    for message in messages:
        turn = session.receive(wire.decode(message))
        sent += [data for reply in turn.replies for data in wire.encode(reply)]
        while turn.ask is not None:
            turn = session.answer(_decide(turn.ask))
            sent += [data for reply in turn.replies for data in wire.encode(reply)]
    return sent


def _decide(question: Question) -> Decision:
    if isinstance(question, Request):
        return ROUTED
    if isinstance(question, ResponseHead):
        return Stream()
    assert isinstance(question, ResponseChunk)
    return Emit(question.data, end=question.end)


def _encoded(reply: Continue) -> list[bytes]:
    return list(wire.encode(reply))


def _header_map(headers: dict[str, str]) -> pb.HeaderMap:
    return pb.HeaderMap(
        headers=[pb.HeaderValue(key=key, raw_value=value.encode()) for key, value in headers.items()]
    )


def request_headers(
    mode: str,
    headers: Mapping[str, str] | None = None,
    metadata: Metadata | None = None,
    *,
    answer: str = "NONE",
) -> bytes:
    """Return the first message of a request whose body is sent in `mode`, and its answer's in `answer`."""
    structs = {namespace: wire.struct(values) for namespace, values in (metadata or {}).items()}
    return pb.ProcessingRequest(
        request_headers=pb.HttpHeaders(headers=_header_map({**HEADERS, **(headers or {})})),
        metadata_context=pb.Metadata(filter_metadata=structs),
        protocol_config=pb.ProtocolConfiguration(request_body_mode=mode, response_body_mode=answer),
    ).SerializeToString()


def response_headers() -> bytes:
    """Return the first message of a streamed answer."""
    headers = {":status": "200", "content-type": "text/event-stream", "server": "uvicorn"}
    return pb.ProcessingRequest(
        response_headers=pb.HttpHeaders(headers=_header_map(headers)),
        protocol_config=pb.ProtocolConfiguration(response_body_mode=pb.FULL_DUPLEX_STREAMED),
    ).SerializeToString()


def _chunks(size: int) -> list[bytes]:
    return [b"x" * min(CHUNK, size - start) for start in range(0, size, CHUNK)]


def _bodies(pieces: Sequence[bytes]) -> Iterator[bytes]:
    return (body(piece, end=index == len(pieces) - 1) for index, piece in enumerate(pieces))


def body(data: bytes, *, end: bool) -> bytes:
    """Return a message with a piece of a request's body."""
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=data, end_of_stream=end)).SerializeToString()


def response_body(data: bytes, *, end: bool) -> bytes:
    """Return a message with a piece of an answer's body."""
    return pb.ProcessingRequest(response_body=pb.HttpBody(body=data, end_of_stream=end)).SerializeToString()
