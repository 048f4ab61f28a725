"""Errors that Envoy itself makes, in the words of the OpenAI API, so that SDKs show them.

Mappers are bound to Envoy's own response details: by status alone they would overwrite the services' refusals.
"""

from __future__ import annotations

import json

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm

from tools.gateway.envoy.typed import packed


def error_body(message: str, kind: str, code: str) -> str:
    """Return OpenAI's error shape as JSON text."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


NO_SUCH_PATH = error_body("This path is not served here.", "invalid_request_error", "unknown_url")

TOO_LARGE = error_body(
    "The request body is larger than this path accepts.", "invalid_request_error", "request_too_large"
)
SERVICE_DOWN = error_body("A service of the gateway is not available.", "server_error", "gateway_unavailable")
SERVER_DOWN = error_body("No model server could answer.", "server_error", "upstream_unavailable")

_NO_ANSWER = (
    "response.code_details in ['no_healthy_upstream', 'cluster_not_found', 'response_timeout', "
    "'upstream_max_stream_duration_reached', 'stream_idle_timeout'] "
    "|| response.code_details.startsWith('upstream_reset_') || response.code_details.startsWith('overload')"
)

_MAPPERS = (
    ("response.code_details == 'request_payload_too_large'", TOO_LARGE),
    ("response.code_details.startsWith('ext_proc_error')", SERVICE_DOWN),
    (_NO_ANSWER, SERVER_DOWN),
)


def local_reply_config() -> hcm.LocalReplyConfig:
    """Return the mappers; what none of them fits leaves as Envoy or a service made it."""
    return hcm.LocalReplyConfig(mappers=[_mapper(when, body) for when, body in _MAPPERS])


def _mapper(when: str, body: str) -> hcm.ResponseMapper:
    condition = accesslog.ExtensionFilter(
        name="envoy.access_loggers.extension_filters.cel",
        typed_config=packed(ExpressionFilter(expression=when)),
    )
    return hcm.ResponseMapper(
        filter=accesslog.AccessLogFilter(extension_filter=condition),
        body_format_override=core.SubstitutionFormatString(
            text_format_source=core.DataSource(inline_string=body), content_type="application/json"
        ),
    )
