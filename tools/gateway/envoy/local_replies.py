"""Errors that Envoy itself makes, in the words of the OpenAI API, so that SDKs show them.

Mappers are bound to Envoy's own response details: by status alone they would overwrite the services' refusals.
"""

from __future__ import annotations

import json

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm

from tools.gateway.envoy.typed import packed, set_header


def error_body(message: str, kind: str, code: str) -> str:
    """Return OpenAI's error shape as JSON text."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


NO_SUCH_PATH = error_body("This path is not served here.", "invalid_request_error", "unknown_url")

TOO_LARGE = error_body(
    "The request body is larger than this path accepts.", "invalid_request_error", "request_too_large"
)
SERVICE_DOWN = error_body("A service of the gateway is not available.", "server_error", "gateway_unavailable")
SERVER_DOWN = error_body("No model server could answer.", "server_error", "upstream_unavailable")

FALLBACK = "x-gateway-fallback"
"""Said by a leg whose pool did not begin an answer, with the reason; the edge may then try the next pool."""

_NO_ANSWER = (
    "response.code_details in ['no_healthy_upstream', 'cluster_not_found', 'response_timeout', "
    "'upstream_per_try_timeout', 'upstream_max_stream_duration_reached', 'max_duration_timeout', 'stream_idle_timeout'] "
    "|| response.code_details.startsWith('upstream_reset_') || response.code_details.startsWith('overload')"
)

_MAPPERS = (
    ("response.code_details == 'request_payload_too_large'", TOO_LARGE),
    ("response.code_details.startsWith('ext_proc_error')", SERVICE_DOWN),
    (_NO_ANSWER, SERVER_DOWN),
)

_RESET = "upstream_reset_before_response_started{"
_UNREACHED = (
    "remote_connection_failure",
    "local_connection_failure",
    "connection_timeout",
    "remote_refused_stream",
)
"""How Envoy names an attempt that no server has seen. A connection that breaks later is not among them."""


def _any_reset(*kinds: str) -> str:
    return " || ".join(f"response.code_details.startsWith('{_RESET}{kind}')" for kind in kinds)


_NOT_BEGUN = (
    # The EPP's own refusals, in its words: 429 when it sheds, 503 when no server is ready.
    ("response.code_details.startsWith('epp_') && response.code == 429", "saturated", None),
    ("response.code_details.startsWith('epp_') && response.code == 503", "down", None),
    (_any_reset("overflow"), "saturated", SERVER_DOWN),
    (f"response.code_details == 'no_healthy_upstream' || {_any_reset(*_UNREACHED)}", "down", SERVER_DOWN),
    ("response.code_details == 'upstream_per_try_timeout'", "deadline", SERVER_DOWN),
)


def local_reply_config() -> hcm.LocalReplyConfig:
    """Return the mappers; what none of them fits leaves as Envoy or a service made it."""
    return hcm.LocalReplyConfig(mappers=[_mapper(when, body) for when, body in _MAPPERS])


def leg_reply_config() -> hcm.LocalReplyConfig:
    """Return the mappers of a leg: what allows another pool is marked, the rest is as at the edge.

    A server cannot cause the mark: local replies only are mapped, and the header is removed from servers' answers.
    """
    marked = [_mapper(when, body, fallback=reason) for when, reason, body in _NOT_BEGUN]
    return hcm.LocalReplyConfig(mappers=[*marked, *local_reply_config().mappers])


def _mapper(when: str, body: str | None, *, fallback: str | None = None) -> hcm.ResponseMapper:
    condition = accesslog.ExtensionFilter(
        name="envoy.access_loggers.extension_filters.cel",
        typed_config=packed(ExpressionFilter(expression=when)),
    )
    return hcm.ResponseMapper(
        filter=accesslog.AccessLogFilter(extension_filter=condition),
        body_format_override=None if body is None else _json(body),
        headers_to_add=[] if fallback is None else [set_header(FALLBACK, fallback)],
    )


def _json(body: str) -> core.SubstitutionFormatString:
    return core.SubstitutionFormatString(
        text_format_source=core.DataSource(inline_string=body), content_type="application/json"
    )
