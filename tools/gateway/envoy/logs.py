"""Access logs: to the EPP, which learns from them when its picks end, and as JSON text for people."""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.access_loggers.grpc import v3 as grpc_log
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Struct

from tools.gateway.envoy.addresses import EPP_CONTROL
from tools.gateway.envoy.clusters import grpc_service
from tools.gateway.envoy.filters import EPP_METADATA
from tools.gateway.envoy.typed import packed, seconds

_FIELDS = {
    "time": "%START_TIME%",
    "id": "%REQ(X-REQUEST-ID)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "code": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "route": "%ROUTE_NAME%",
    "model": "%REQ(X-GATEWAY-MODEL-NAME)%",
    "picked": "%DYNAMIC_METADATA(envoy.lb:x-gateway-destination-endpoint)%",
    "upstream": "%UPSTREAM_HOST%",
    "fallback": "%RESP(X-GATEWAY-FALLBACK)%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "ms": "%DURATION%",
    # Latency in us and gRPC status of every message; the keys are the filters' names.
    "bbr": "%FILTER_STATE(bbr:PLAIN)%",
    "safety": "%FILTER_STATE(safety:PLAIN)%",
    "epp": "%FILTER_STATE(epp:PLAIN)%",
}


def access_logs(path: str | None) -> list[accesslog.AccessLog]:
    """Return the EPP's log, and the text log where `path` names a file."""
    return [_to_epp(), *([_to_file(path)] if path else [])]


def _to_epp() -> accesslog.AccessLog:
    """Log what the EPP decided, to the EPP, in batches: at most 5 ms late, or 16 KiB large.

    Until the EPP hears of its end, a request counts as load: at 50 ms a client that sends turn after turn meets its
    own past on the server that has its prefix, and 12 of 120 such conversations changed server, at 5 ms none.
    """
    return accesslog.AccessLog(
        name="envoy.access_loggers.http_grpc",
        filter=accesslog.AccessLogFilter(metadata_filter=_has_decision()),
        typed_config=packed(
            grpc_log.HttpGrpcAccessLogConfig(
                common_config=grpc_log.CommonGrpcAccessLogConfig(
                    log_name="requests",
                    grpc_service=grpc_service(EPP_CONTROL),
                    transport_api_version=core.ApiVersion.V3,
                    buffer_flush_interval=seconds(0.005),
                    buffer_size_bytes=16384,
                )
            )
        ),
    )


def _has_decision() -> accesslog.MetadataFilter:
    return accesslog.MetadataFilter(
        matcher=matcher.MetadataMatcher(
            filter=EPP_METADATA,
            path=[matcher.MetadataMatcherPathSegment(key="decision")],
            value=matcher.ValueMatcher(present_match=True),
        ),
        match_if_key_not_found=False,
    )


def _to_file(path: str) -> accesslog.AccessLog:
    return accesslog.AccessLog(
        name="envoy.access_loggers.file",
        typed_config=packed(
            FileAccessLog(
                path=path,
                log_format=core.SubstitutionFormatString(json_format=Struct.from_dict(_FIELDS)),
            )
        ),
    )
