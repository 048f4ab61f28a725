"""Bytes of `envoy.service.ext_proc.v3` to our values and back. The only module that knows protobuf."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.message import DecodeError, EncodeError
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct
from google.protobuf.struct_pb2 import Value as PbValue

from services.extproc.decisions import Forward, Reject
from services.extproc.errors import ProtocolError
from services.extproc.events import Headers, Metadata, Value
from services.extproc.messages import Chunk, Continue, Message, Mode, Modes, MoreTime, Part, Reply, Side
from services.pb import extproc_pb2 as pb

CHUNK_BYTES = 62_000
"""The most body bytes in one streamed reply: other proxies than Envoy refuse messages near 64 KB."""

_SIDES = {"request": Side.REQUEST, "response": Side.RESPONSE}
_PARTS = {"headers": Part.HEADERS, "body": Part.BODY, "trailers": Part.TRAILERS}
_KINDS = {f"{side}_{part}": (_SIDES[side], _PARTS[part]) for side in _SIDES for part in _PARTS}
_FIELDS = {kind: name for name, kind in _KINDS.items()}
_OVERWRITE = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def decode(data: bytes) -> Message:
    """Read one `ProcessingRequest`; raise `ProtocolError` when the bytes are none."""
    try:
        message = pb.ProcessingRequest.FromString(data)
    except DecodeError as error:
        raise ProtocolError(f"not a ProcessingRequest: {error}") from error
    name = message.WhichOneof("request")
    modes = _modes(message.protocol_config) if message.HasField("protocol_config") else None
    if name is None:
        return Message(None, modes=modes, observing=message.observability_mode)
    side, part = _KINDS[name]
    if part is Part.BODY:
        return _body(message, side, getattr(message, name), modes)
    piece = getattr(message, name)
    return Message(
        side,
        part,
        headers=_headers(piece.headers if part is Part.HEADERS else piece.trailers),
        end=part is Part.HEADERS and piece.end_of_stream,
        metadata=_metadata(message),
        attributes=_attributes(message),
        modes=modes,
        observing=message.observability_mode,
    )


def encode(reply: Reply) -> Iterator[bytes]:
    """Write one reply as `ProcessingResponse`s: several when a chunk is longer than `CHUNK_BYTES`."""
    if isinstance(reply, Continue):
        constant = _PLAIN.get((reply.side, reply.part)) if reply.forward == _UNCHANGED else None
        yield constant or _serialized(_continue(reply))
    elif isinstance(reply, Chunk):
        yield from _chunks(reply)
    elif isinstance(reply, MoreTime):
        yield _serialized(_more_time(reply))
    else:
        yield _serialized(_immediate(reply))


def struct(values: Mapping[str, Value] | Metadata) -> Struct:
    """Return plain values as a `google.protobuf.Struct`."""
    result = Struct()
    for key, value in values.items():
        _fill(result.fields[key], value)
    return result


def plain(source: Struct) -> dict[str, Value]:
    """Return a `google.protobuf.Struct` as plain values."""
    return {key: _plain_value(value) for key, value in source.fields.items()}


def _body(message: pb.ProcessingRequest, side: Side, body: pb.HttpBody, modes: Modes | None) -> Message:
    # Metadata comes with every message and is read where it can have changed since the headers: with the last byte.
    wanted = body.end_of_stream and side is Side.REQUEST
    return Message(
        side,
        Part.BODY,
        data=body.body,
        end=body.end_of_stream,
        metadata=_metadata(message) if wanted else {},
        modes=modes,
        observing=message.observability_mode,
    )


def _headers(source: pb.HeaderMap) -> Headers:
    # Envoy fills raw_value; older ones and other proxies fill value.
    return Headers(
        (header.key.lower(), header.raw_value.decode("utf-8", "surrogateescape") or header.value)
        for header in source.headers
    )


def _metadata(message: pb.ProcessingRequest) -> dict[str, dict[str, Value]]:
    return {name: plain(value) for name, value in message.metadata_context.filter_metadata.items()}


def _attributes(message: pb.ProcessingRequest) -> dict[str, Value]:
    # One entry per filter name in Envoy; a stream has one filter.
    return {key: value for group in message.attributes.values() for key, value in plain(group).items()}


def _modes(config: pb.ProtocolConfiguration) -> Modes:
    try:
        request, response = Mode(config.request_body_mode), Mode(config.response_body_mode)
    except ValueError as error:
        raise ProtocolError(f"unknown body mode: {error}") from error
    return Modes(request, response, config.send_body_without_waiting_for_header_response)


def _plain_value(value: PbValue) -> Value:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return plain(value.struct_value)
    if kind == "list_value":
        return [_plain_value(item) for item in value.list_value.values]
    if kind is None or kind == "null_value":
        return None
    scalar: str | float | bool = getattr(value, kind)
    return scalar


def _fill(target: PbValue, value: Value | Mapping[str, Value]) -> None:
    if value is None:
        target.null_value = NULL_VALUE
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, (int, float)):
        target.number_value = value
    elif isinstance(value, Mapping):
        target.struct_value.CopyFrom(struct(value))
    else:
        target.list_value.CopyFrom(_list(value))


def _list(values: Iterable[Value]) -> ListValue:
    result = ListValue()
    for value in values:
        _fill(result.values.add(), value)
    return result


def _mutate(
    target: pb.HeaderMutation, set_headers: Iterable[tuple[str, str]], remove: Iterable[str] = ()
) -> None:
    for name, value in set_headers:
        header = pb.HeaderValue(key=name, raw_value=value.encode("utf-8", "surrogateescape"))
        target.set_headers.add(header=header, append_action=_OVERWRITE, keep_empty_value=True)
    target.remove_headers.extend(remove)


def _continue(reply: Continue) -> pb.ProcessingResponse:
    forward, name = reply.forward, _FIELDS[reply.side, reply.part]
    response = pb.ProcessingResponse()
    piece = getattr(response, name)
    piece.SetInParent()
    if reply.part is not Part.TRAILERS:
        _fill_common(piece.response, forward)
    _add_metadata(response, forward.metadata)
    return response


def _fill_common(common: pb.CommonResponse, forward: Forward) -> None:
    # Envoy ignores clear_route_cache without a header mutation, so an empty one goes with it.
    if forward.set_headers or forward.remove_headers or forward.reroute:
        common.header_mutation.SetInParent()
        _mutate(common.header_mutation, forward.set_headers, forward.remove_headers)
    common.clear_route_cache = forward.reroute
    if forward.body:
        common.body_mutation.body = forward.body
    elif forward.body is not None:
        common.body_mutation.clear_body = True


def _chunks(chunk: Chunk) -> Iterator[bytes]:
    starts = range(0, len(chunk.data) or 1, CHUNK_BYTES)
    view = memoryview(chunk.data)
    for start in starts:
        piece = bytes(view[start : start + CHUNK_BYTES])
        last = start == starts[-1]
        response = pb.ProcessingResponse()
        body = response.request_body if chunk.side is Side.REQUEST else response.response_body
        streamed = body.response.body_mutation.streamed_response
        streamed.SetInParent()
        streamed.body, streamed.end_of_stream = piece, chunk.end and last
        if start == 0:
            _add_metadata(response, chunk.metadata)
        yield _serialized(response)


def _immediate(reject: Reject) -> pb.ProcessingResponse:
    response = pb.ProcessingResponse()
    immediate = response.immediate_response
    immediate.status.code = reject.status
    immediate.body = reject.body
    immediate.details = reject.details
    _mutate(immediate.headers, reject.headers)
    _add_metadata(response, reject.metadata)
    return response


def _more_time(reply: MoreTime) -> pb.ProcessingResponse:
    response = pb.ProcessingResponse()
    response.override_message_timeout.FromMilliseconds(round(reply.seconds * 1000))
    return response


def _add_metadata(response: pb.ProcessingResponse, metadata: Metadata) -> None:
    if metadata:
        response.dynamic_metadata.CopyFrom(struct(metadata))


def _serialized(response: pb.ProcessingResponse) -> bytes:
    try:
        return response.SerializeToString()
    except EncodeError as error:
        raise ProtocolError(f"a reply that protobuf cannot hold: {error}") from error


_UNCHANGED = Forward()
_PLAIN = {kind: _serialized(_continue(Continue(*kind))) for kind in _FIELDS}
"""The replies that change nothing, made once: most replies are one of these six."""
