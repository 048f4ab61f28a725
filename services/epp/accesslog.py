"""Envoy's gRPC access log: how the picker learns that a request has ended, and how.

`envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs`: a stream of messages with many entries each, never
answered. An entry brings back the metadata that the pick attached, so the decision id finds its reservation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from services.epp.asking import OWN_NAMESPACE
from services.epp.director import Director
from services.epp.endpoints import join
from services.epp.proxies import Proxies
from services.epp.records import Ended, EndOutcome, Observer, Release
from services.openai.usage import Usage
from services.pb import accesslog_pb2 as pb

SERVICE = "envoy.service.accesslog.v3.AccessLogService"
METHOD = "StreamAccessLogs"

SAFETY_NAMESPACE = "gw.safety"
"""Carries `usage`, of answers that safety reads."""
MOST = 1e9
"""More is no count of tokens and no time."""

_FINAL = frozenset({0, 6})
"""Access log types that mean the end: not set, and DownstreamEnd. Others are interim reports of a long request."""

_CLIENT_LEFT = ("downstream_connection_termination", "downstream_remote_reset", "downstream_protocol_error")
_TIMED_OUT = (
    "upstream_request_timeout",
    "stream_idle_timeout",
    "duration_timeout",
    "upstream_max_stream_duration_reached",
)
_NOT_SENT = ("no_healthy_upstream", "upstream_connection_failure", "upstream_overflow", "no_cluster_found")
_SERVER_FAILED = (
    "upstream_remote_reset",
    "upstream_connection_termination",
    "upstream_retry_limit_exceeded",
    "upstream_protocol_error",
    "local_reset",
)
_OUTCOMES = (
    (EndOutcome.CLIENT_LEFT, _CLIENT_LEFT),
    (EndOutcome.TIMED_OUT, _TIMED_OUT),
    (EndOutcome.NOT_SENT, _NOT_SENT),
    (EndOutcome.SERVER_FAILED, _SERVER_FAILED),
)
"""First match wins: a client that left also resets its server."""

_MAX_DURATION = "max_duration_timeout"
"""The details of an end by a route's `max_stream_duration`, which sets no flag."""


class AccessLog:
    """The gRPC service."""

    def __init__(self, director: Director, observer: Observer, proxies: Proxies) -> None:
        self._director = director
        self._observer = observer
        self._proxies = proxies

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server registers."""
        method = grpc.stream_unary_rpc_method_handler(
            self._stream,
            request_deserializer=pb.StreamAccessLogsMessage.FromString,
            response_serializer=pb.StreamAccessLogsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})

    def receive(self, message: pb.StreamAccessLogsMessage) -> None:
        """Release every request of `message` that was picked here."""
        for entry in message.http_logs.log_entry:
            if (end := ended(entry)) is not None:
                self.take(end)

    def take(self, end: Ended) -> None:
        """Take in one end, which may have come to another replica's log."""
        if self._director.finish(end, Release.ACCESS_LOG):
            self._observer.ended(end)

    async def _stream(
        self,
        messages: AsyncIterator[pb.StreamAccessLogsMessage],
        context: grpc.aio.ServicerContext[pb.StreamAccessLogsMessage, pb.StreamAccessLogsResponse],
    ) -> pb.StreamAccessLogsResponse:
        with self._proxies.stream(context.peer()) as named:
            async for message in messages:
                named(message.identifier.node.id)
                self.receive(message)
        return pb.StreamAccessLogsResponse()


def ended(entry: pb.HTTPAccessLogEntry) -> Ended | None:
    """Return what `entry` says of the end of a request; None for interim reports and requests not picked here."""
    common = entry.common_properties
    if common.access_log_type not in _FINAL or OWN_NAMESPACE not in common.metadata.filter_metadata:
        return None
    own = common.metadata.filter_metadata[OWN_NAMESPACE].fields
    if "decision" not in own:
        return None
    outcome = _outcome(common.response_flags, entry.response.response_code_details)
    told = _told(common.metadata)
    return Ended(
        pool=own["pool"].string_value if "pool" in own else "",
        decision=own["decision"].string_value,
        outcome=outcome,
        served=None if outcome is EndOutcome.NOT_SENT else _address(common.upstream_remote_address),
        status=entry.response.response_code.value,
        attempts=common.upstream_request_attempt_count,
        seconds=_seconds(common, "time_to_last_downstream_tx_byte") or _seconds(common, "duration") or 0.0,
        sent_after=_seconds(common, "time_to_first_upstream_tx_byte"),
        answered_after=_seconds(common, "time_to_first_upstream_rx_byte"),
        first_token_after=_first_token(common, told),
        response_bytes=entry.response.response_body_bytes,
        usage=_usage(told),
    )


def _told(metadata: pb.Metadata) -> dict[str, float]:
    """Return what a service that reads answers says of this one, where one does: counts of tokens, and a time."""
    if SAFETY_NAMESPACE not in metadata.filter_metadata:
        return {}
    said = metadata.filter_metadata[SAFETY_NAMESPACE].fields
    usage = said["usage"].struct_value.fields if "usage" in said else {}
    return {name: value.number_value for name, value in usage.items() if 0 <= value.number_value <= MOST}


def _usage(told: dict[str, float]) -> Usage | None:
    if "completion" not in told:
        return None
    return Usage(*(int(told.get(name, 0)) for name in ("prompt", "completion", "cached")))


def _first_token(common: pb.AccessLogCommon, told: dict[str, float]) -> float | None:
    """Return when the first token came: the head is the proxy's to time, and the service says how long after it."""
    head, first = _seconds(common, "time_to_first_upstream_rx_byte"), told.get("first")
    return None if head is None or first is None else head + first


def _outcome(flags: pb.ResponseFlags, details: str) -> EndOutcome:
    if details == _MAX_DURATION:
        return EndOutcome.TIMED_OUT
    for outcome, names in _OUTCOMES:
        if any(getattr(flags, name) for name in names):
            return outcome
    return EndOutcome.COMPLETED


def _address(address: pb.Address) -> str | None:
    socket = address.socket_address
    return join(socket.address, socket.port_value) if socket.port_value else None


def _seconds(common: pb.AccessLogCommon, field: str) -> float | None:
    """Return a duration that was measured; None where Envoy left it out."""
    if not common.HasField(field):
        return None
    duration = getattr(common, field)
    return float(duration.seconds + duration.nanos / 1e9)
