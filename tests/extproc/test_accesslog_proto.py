"""The access-log subset against the full definitions of `envoy_data_plane`."""

from __future__ import annotations

import datetime as dt

import envoy_data_plane.envoy.config.core.v3 as core
import envoy_data_plane.envoy.data.accesslog.v3 as data
import envoy_data_plane.envoy.service.accesslog.v3 as service
from envoy_data_plane.google.protobuf import Struct, Value

from services.pb import accesslog_pb2 as pb

ADDRESS = core.Address(socket_address=core.SocketAddress(address="10.0.0.1", port_value=8000))
SECOND = dt.timedelta(seconds=1)
FLAGS = [
    name for name in data.ResponseFlags.__dataclass_fields__ if name != "unauthorized_details"
]  # that one is a message, and about a filter that is not used here

ENTRY = data.HttpAccessLogEntry(
    common_properties=data.AccessLogCommon(
        downstream_remote_address=ADDRESS,
        start_time=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        time_to_last_rx_byte=SECOND,
        time_to_first_upstream_tx_byte=SECOND,
        time_to_last_upstream_tx_byte=SECOND,
        time_to_first_upstream_rx_byte=SECOND,
        time_to_last_upstream_rx_byte=SECOND,
        time_to_first_downstream_tx_byte=SECOND,
        time_to_last_downstream_tx_byte=SECOND,
        upstream_remote_address=ADDRESS,
        upstream_cluster="pool-llama",
        response_flags=data.ResponseFlags(**dict.fromkeys(FLAGS, True)),  # type: ignore[arg-type]  # all of them
        metadata=core.Metadata(filter_metadata={"envoy.lb": Struct(fields={"k": Value(string_value="v")})}),
        upstream_transport_failure_reason="a",
        route_name="r",
        custom_tags={"t": "1"},
        duration=SECOND,
        upstream_request_attempt_count=2,
        connection_termination_details="b",
        stream_id="id",
        downstream_wire_bytes_sent=1,
        downstream_wire_bytes_received=2,
        upstream_wire_bytes_sent=3,
        upstream_wire_bytes_received=4,
        access_log_type=data.AccessLogType.DownstreamEnd,
    ),
    request=data.HttpRequestProperties(
        request_method=core.RequestMethod.POST,
        scheme="http",
        authority="a",
        path="/v1",
        user_agent="u",
        request_id="id",
        original_path="/v0",
        request_headers_bytes=1,
        request_body_bytes=2,
        request_headers={"a": "b"},
    ),
    response=data.HttpResponseProperties(
        response_code=200,
        response_headers_bytes=1,
        response_body_bytes=2,
        response_headers={"a": "b"},
        response_trailers={"c": "d"},
        response_code_details="via_upstream",
    ),
)
MESSAGE = service.StreamAccessLogsMessage(
    identifier=service.StreamAccessLogsMessageIdentifier(
        node=core.Node(id="gateway-1", cluster="inference-gateway"), log_name="ends"
    ),
    http_logs=service.StreamAccessLogsMessageHttpAccessLogEntries(log_entry=[ENTRY]),
)


def test_every_field_of_the_subset_has_envoys_number():
    """What Envoy's full definitions write is read without an unknown field, and written back the same."""
    ours = pb.StreamAccessLogsMessage.FromString(bytes(MESSAGE))
    size = ours.ByteSize()
    ours.DiscardUnknownFields()
    assert ours.ByteSize() == size
    assert service.StreamAccessLogsMessage.parse(ours.SerializeToString()) == MESSAGE


def test_the_test_sets_every_field_of_the_subset():
    """A field that is added there must be added here."""
    ours = pb.StreamAccessLogsMessage.FromString(bytes(MESSAGE))
    (entry,) = ours.http_logs.log_entry
    pieces = [ours, entry, entry.common_properties, entry.request, entry.response]
    pieces.append(entry.common_properties.response_flags)
    for piece in pieces:
        assert {field.name for field, _ in piece.ListFields()} == set(piece.DESCRIPTOR.fields_by_name)


def test_names_may_be_read_by_path():
    """The fields that release a reservation."""
    (entry,) = pb.StreamAccessLogsMessage.FromString(bytes(MESSAGE)).http_logs.log_entry
    address = entry.common_properties.upstream_remote_address.socket_address
    assert (address.address, address.port_value) == ("10.0.0.1", 8000)
    assert entry.response.response_code.value == 200
    assert entry.common_properties.metadata.filter_metadata["envoy.lb"].fields["k"].string_value == "v"
