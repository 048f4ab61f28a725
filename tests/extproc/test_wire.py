"""Our subset against the full definitions of `envoy_data_plane`, which were made by somebody else."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import envoy_data_plane.envoy.config.core.v3 as core
import envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 as filters
import envoy_data_plane.envoy.service.ext_proc.v3 as api
import pytest
from envoy_data_plane.google.protobuf import ListValue, NullValue, Struct, Value
from google.protobuf.message import Message as PbMessage

from services.extproc import wire
from services.extproc.decisions import Forward, Reject
from services.extproc.errors import ProtocolError
from services.extproc.events import Headers
from services.extproc.events import Value as Plain
from services.extproc.messages import Chunk, Continue, Message, Mode, Modes, MoreTime, Part, Side
from services.pb import extproc_pb2 as pb

PARTS = [(side, part) for side in Side for part in Part]
OVERWRITE = core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


def sent(reply):
    """Return `reply` as the full API reads it."""
    (data,) = wire.encode(reply)
    return api.ProcessingResponse.parse(data)


def received(kind, piece, **rest):
    """Return what we read when the full API writes a message of `kind`."""
    message = api.ProcessingRequest(**rest)
    setattr(message, kind, piece)
    return wire.decode(bytes(message))


def header_map(*items):
    return core.HeaderMap(headers=[core.HeaderValue(key=key, raw_value=value) for key, value in items])


def text(value):
    return Value(string_value=value)


METADATA = core.Metadata(
    filter_metadata={
        "envoy.lb.subset_hint": Struct(
            fields={
                "endpoints": Value(list_value=ListValue(values=[text("a"), text("b")])),
                "none": Value(null_value=NullValue.NULL_VALUE),
                "nested": Value(struct_value=Struct(fields={"n": Value(number_value=1.5)})),
                "on": Value(bool_value=True),
                "unset": Value(),
            }
        )
    }
)
PLAIN_METADATA: dict[str, dict[str, Plain]] = {
    "envoy.lb.subset_hint": {
        "endpoints": ["a", "b"],
        "none": None,
        "nested": {"n": 1.5},
        "on": True,
        "unset": None,
    }
}


@pytest.mark.parametrize("side", Side)
def test_headers_come_as_they_are(side):
    """Names in lower case, repeats kept, values from `raw_value` and else from `value`, any bytes."""
    headers = header_map((":method", b"POST"), ("X-Mixed", b"a"), ("x-mixed", b"b"), ("x-latin", b"caf\xe9"))
    headers.headers.append(core.HeaderValue(key="x-old", value="old"))
    piece = api.HttpHeaders(headers=headers, end_of_stream=True)
    decoded = received(
        f"{side.value}_headers",
        piece,
        metadata_context=METADATA,
        attributes={"envoy.filters.http.ext_proc": Struct(fields={"xds.route_name": text("r")})},
        observability_mode=True,
        protocol_config=api.ProtocolConfiguration(
            request_body_mode=filters.ProcessingModeBodySendMode.BUFFERED,
            response_body_mode=filters.ProcessingModeBodySendMode.FULL_DUPLEX_STREAMED,
            send_body_without_waiting_for_header_response=True,
        ),
    )

    expected = [
        (":method", "POST"),
        ("x-mixed", "a"),
        ("x-mixed", "b"),
        ("x-latin", "caf\udce9"),
        ("x-old", "old"),
    ]
    assert decoded == Message(
        side,
        Part.HEADERS,
        headers=Headers(expected),
        end=True,
        metadata=PLAIN_METADATA,
        attributes={"xds.route_name": "r"},
        modes=Modes(Mode.BUFFERED, Mode.FULL_DUPLEX_STREAMED, early=True),
        observing=True,
    )


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("side", Side)
def test_body_and_trailers_come_as_they_are(side, end):
    """The last chunk may be empty; trailers have headers of their own."""
    body = received(f"{side.value}_body", api.HttpBody(body=b"\x00\xff", end_of_stream=end))
    assert body == Message(side, Part.BODY, data=b"\x00\xff", end=end)
    trailers = received(f"{side.value}_trailers", api.HttpTrailers(trailers=header_map(("x-t", b"1"))))
    assert trailers == Message(side, Part.TRAILERS, headers=Headers([("x-t", "1")]))


def test_metadata_is_read_with_the_end_of_a_request_and_not_with_every_chunk():
    """It comes with each message; converting it for every chunk of a stream would be waste."""

    def metadata(**piece):
        return wire.decode(bytes(api.ProcessingRequest(**piece, metadata_context=METADATA))).metadata

    last, middle = api.HttpBody(end_of_stream=True), api.HttpBody(body=b"x")
    assert metadata(request_body=last) == PLAIN_METADATA
    assert metadata(request_trailers=api.HttpTrailers()) == PLAIN_METADATA
    assert metadata(request_body=middle) == {}
    assert metadata(response_body=last) == {}


def test_what_is_not_known_is_no_message():
    """An empty message, fields of a later version."""
    later = b"\xf2\x7f\x02\x08\x01"  # field 2046, which nobody has
    assert wire.decode(later) == Message(None)
    body = bytes(api.ProcessingRequest(request_body=api.HttpBody(body=b"x")))
    assert wire.decode(body + later) == Message(Side.REQUEST, Part.BODY, data=b"x")


def test_garbage_is_a_breach_of_the_protocol():
    """Not an exception of protobuf's own."""
    with pytest.raises(ProtocolError, match="not a ProcessingRequest"):
        wire.decode(b"\xff\xff")


def test_an_unknown_mode_is_a_breach_of_the_protocol():
    """A mode of a later version cannot be served."""
    config = pb.ProtocolConfiguration(request_body_mode=17)  # type: ignore[arg-type]  # not in the enum, on purpose
    with pytest.raises(ProtocolError, match="unknown body mode: 17"):
        wire.decode(pb.ProcessingRequest(protocol_config=config).SerializeToString())


@pytest.mark.parametrize(("side", "part"), PARTS)
def test_a_plain_continue_says_nothing_but_its_kind(side, part):
    """Prebuilt, and equal to what would be built."""
    reply = sent(Continue(side, part))
    assert [name for name in KINDS if getattr(reply, name) is not None] == [f"{side.value}_{part.value}"]
    assert reply.dynamic_metadata is None
    first, second = (next(wire.encode(Continue(side, part))) for _ in range(2))
    assert first is second


def test_more_time_is_a_timeout_and_no_reply():
    """Envoy ignores everything else in that message."""
    reply = sent(MoreTime(12.5))
    assert reply.override_message_timeout == timedelta(seconds=12.5)
    assert not any(getattr(reply, name) is not None for name in KINDS)


KINDS = [f"{side.value}_{part.value}" for side, part in PARTS] + ["immediate_response"]


@pytest.mark.parametrize("part", [Part.HEADERS, Part.BODY])
@pytest.mark.parametrize("side", Side)
def test_a_change_of_headers_and_metadata(side, part):
    """Each header replaces all of its name, empty values included; the route is chosen again."""
    change = Forward(
        set_headers=(("x-model", "llama"), ("x-empty", ""), ("x-latin", "caf\udce9")),
        remove_headers=("x-gone",),
        metadata=PLAIN_METADATA,
        reroute=True,
    )
    reply = sent(Continue(side, part, change))
    common = getattr(reply, f"{side.value}_{part.value}").response
    assert [
        (option.header.key, option.header.raw_value) for option in common.header_mutation.set_headers
    ] == [
        ("x-model", b"llama"),
        ("x-empty", b""),
        ("x-latin", b"caf\xe9"),
    ]
    options = common.header_mutation.set_headers
    assert {(option.append_action, option.keep_empty_value) for option in options} == {(OVERWRITE, True)}
    assert common.header_mutation.remove_headers == ["x-gone"]
    assert common.clear_route_cache
    hint = reply.dynamic_metadata.fields["envoy.lb.subset_hint"].struct_value
    assert [value.string_value for value in hint.fields["endpoints"].list_value.values] == ["a", "b"]
    assert hint.fields["nested"].struct_value.fields["n"].number_value == 1.5
    assert hint.fields["on"].bool_value is True


def test_rerouting_alone_carries_an_empty_header_mutation():
    """Envoy ignores clear_route_cache without one."""
    common = sent(Continue(Side.REQUEST, Part.HEADERS, Forward(reroute=True))).request_headers.response
    assert common.clear_route_cache
    assert common.header_mutation is not None


@pytest.mark.parametrize(("body", "mutation"), [(b"new", {"body": b"new"}), (b"", {"clear_body": True})])
def test_a_new_body_replaces_and_an_empty_one_clears(body, mutation):
    """An empty `body` in the mutation would leave the old one."""
    reply = sent(Continue(Side.RESPONSE, Part.BODY, Forward(body=body)))
    assert reply.response_body.response.body_mutation == api.BodyMutation(**mutation)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize(
    ("size", "pieces"),
    [(0, [0]), (1, [1]), (62_000, [62_000]), (62_001, [62_000, 1]), (150_000, [62_000, 62_000, 26_000])],
)
def test_a_long_chunk_goes_in_pieces(side, size, pieces):
    """Of 62,000 bytes; the end is on the last, the metadata on the first."""
    chunk = Chunk(side, bytes(range(256)) * (size // 256 + 1), end=True, metadata={"a": {"b": "c"}})
    chunk = dataclasses.replace(chunk, data=chunk.data[:size])
    replies = [api.ProcessingResponse.parse(data) for data in wire.encode(chunk)]
    bodies = [getattr(reply, f"{side.value}_body") for reply in replies]
    streamed = [body.response.body_mutation.streamed_response for body in bodies]
    assert [len(piece.body) for piece in streamed] == pieces
    assert b"".join(piece.body for piece in streamed) == chunk.data
    assert [piece.end_of_stream for piece in streamed] == [False] * (len(pieces) - 1) + [True]
    assert [reply.dynamic_metadata is not None for reply in replies] == [True] + [False] * (len(pieces) - 1)


def test_a_rejection_is_an_immediate_response():
    """Status, headers, body, a word for the access log, metadata."""
    reject = Reject(429, b"{}", (("retry-after", "1"),), "shed", {"gw.epp": {"reason": "shed"}})
    reply = sent(reject)
    immediate = reply.immediate_response
    assert (int(immediate.status.code), immediate.body, immediate.details) == (429, b"{}", "shed")
    assert [(option.header.key, option.header.raw_value) for option in immediate.headers.set_headers] == [
        ("retry-after", b"1")
    ]
    assert reply.dynamic_metadata.fields["gw.epp"].struct_value.fields["reason"].string_value == "shed"


def test_a_status_that_no_enum_knows_goes_through():
    """HTTP has more of them than Envoy's enum, such as 499."""
    assert (
        pb.ProcessingResponse.FromString(next(wire.encode(Reject(499)))).immediate_response.status.code == 499
    )


def test_a_struct_survives_the_round_trip():
    """Every kind of value; integers become floats, as in JSON."""
    assert wire.plain(wire.struct(PLAIN_METADATA)) == PLAIN_METADATA
    assert wire.plain(wire.struct({"n": 3})) == {"n": 3.0}


FULL = {
    "ProcessingRequest": api.ProcessingRequest(
        request_headers=api.HttpHeaders(headers=header_map(("a", b"b")), end_of_stream=True),
        metadata_context=METADATA,
        attributes={"g": Struct(fields={"k": text("v")})},
        observability_mode=True,
        protocol_config=api.ProtocolConfiguration(
            request_body_mode=filters.ProcessingModeBodySendMode.STREAMED,
            response_body_mode=filters.ProcessingModeBodySendMode.BUFFERED,
            send_body_without_waiting_for_header_response=True,
        ),
    ),
    "HttpBody": api.HttpBody(body=b"x", end_of_stream=True),
    "HttpTrailers": api.HttpTrailers(trailers=header_map(("a", b"b"))),
    "CommonResponse": api.CommonResponse(
        status=api.CommonResponseResponseStatus.CONTINUE_AND_REPLACE,
        header_mutation=api.HeaderMutation(
            set_headers=[
                core.HeaderValueOption(
                    header=core.HeaderValue(key="k", value="v"),
                    append_action=OVERWRITE,
                    keep_empty_value=True,
                )
            ],
            remove_headers=["r"],
        ),
        body_mutation=api.BodyMutation(
            streamed_response=api.StreamedBodyResponse(body=b"x", end_of_stream=True)
        ),
        trailers=header_map(("a", b"b")),
        clear_route_cache=True,
    ),
    "StreamedImmediateResponse": api.StreamedImmediateResponse(
        headers_response=api.HttpHeaders(headers=header_map((":status", b"200")))
    ),
    "ImmediateResponse": api.ImmediateResponse(
        headers=api.HeaderMutation(remove_headers=["r"]),
        body=b"x",
        grpc_status=api.GrpcStatus(status=7),
        details="d",
    ),
    "ProcessingMode": filters.ProcessingMode(
        request_header_mode=filters.ProcessingModeHeaderSendMode.SEND,
        response_header_mode=filters.ProcessingModeHeaderSendMode.SKIP,
        request_body_mode=filters.ProcessingModeBodySendMode.BUFFERED_PARTIAL,
        response_body_mode=filters.ProcessingModeBodySendMode.GRPC,
        request_trailer_mode=filters.ProcessingModeHeaderSendMode.SEND,
        response_trailer_mode=filters.ProcessingModeHeaderSendMode.SKIP,
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_the_subset_has_envoys_field_numbers(name):
    """What the full API writes, ours reads without an unknown field, and what ours writes, the full API reads."""
    ours: PbMessage = getattr(pb, name).FromString(bytes(FULL[name]))
    written = ours.SerializeToString()
    assert type(FULL[name]).parse(written) == FULL[name]
    known = type(ours)()
    known.CopyFrom(ours)
    known.DiscardUnknownFields()
    assert known.ByteSize() == len(written), "a field of the full API is unknown to the subset"


RESPONSES = [
    api.ProcessingResponse(
        request_headers=api.HeadersResponse(response=api.CommonResponse(clear_route_cache=True))
    ),
    api.ProcessingResponse(response_headers=api.HeadersResponse()),
    api.ProcessingResponse(request_body=api.BodyResponse()),
    api.ProcessingResponse(response_body=api.BodyResponse()),
    api.ProcessingResponse(request_trailers=api.TrailersResponse(header_mutation=api.HeaderMutation())),
    api.ProcessingResponse(response_trailers=api.TrailersResponse()),
    api.ProcessingResponse(immediate_response=api.ImmediateResponse(details="d")),
    api.ProcessingResponse(streamed_immediate_response=api.StreamedImmediateResponse()),
    api.ProcessingResponse(mode_override=filters.ProcessingMode()),
    api.ProcessingResponse(dynamic_metadata=Struct(fields={"a": text("b")})),
]


@pytest.mark.parametrize("response", RESPONSES)
def test_every_kind_of_response_has_envoys_number(response):
    """Both ways."""
    ours = pb.ProcessingResponse.FromString(bytes(response))
    ours.DiscardUnknownFields()
    assert api.ProcessingResponse.parse(ours.SerializeToString()) == response
