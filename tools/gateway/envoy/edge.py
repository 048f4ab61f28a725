"""The listener: how clients' connections are read, what is believed of their headers, and how much they may send."""

from __future__ import annotations

from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from tools.gateway.envoy.addresses import AddressBook
from tools.gateway.envoy.filters import http_filters
from tools.gateway.envoy.local_replies import local_reply_config
from tools.gateway.envoy.logs import access_logs
from tools.gateway.envoy.routing import route_configuration
from tools.gateway.envoy.typed import address, extension, packed, seconds, set_header
from tools.gateway.routes import CONTROL_PREFIXES, Routes

KEPT = "edge-trusted-"
"""Where the value of a trusted header waits while its prefix is removed."""

REMOVED = (
    # Safety reads answers as text, never gzip.
    "accept-encoding",
    # Envoy has answered 100-continue itself.
    "expect",
    # Would have a server fetch a prompt's cache from wherever the client says.
    "x-prefiller-host-port",
    "x-data-parallel-host-port",
    "x-encoder-hosts-ports",
    "x-kv-cache-source-host-port",
)


def edge_listener(routes: Routes, addresses: AddressBook) -> listener.Listener:
    """Return the one port that clients use, for HTTP/1.1 and HTTP/2."""
    connection_manager = listener.Filter(
        name="envoy.filters.network.http_connection_manager",
        typed_config=packed(_connection_manager(routes, addresses)),
    )
    return listener.Listener(
        name="edge",
        address=address(addresses.gateway),
        # Not the body limit: that is request_body_buffer_limit on the routes.
        per_connection_buffer_limit_bytes=1024 * 1024,
        filter_chains=[listener.FilterChain(filters=[connection_manager])],
    )


def _connection_manager(routes: Routes, addresses: AddressBook) -> hcm.HttpConnectionManager:
    escaped_slashes = hcm.HttpConnectionManagerPathWithEscapedSlashesAction
    server_header = hcm.HttpConnectionManagerServerHeaderTransformation
    return hcm.HttpConnectionManager(
        stat_prefix="edge",
        # HTTP/1.1, or HTTP/2 with prior knowledge.
        codec_type=hcm.HttpConnectionManagerCodecType.AUTO,
        # The client's address is the peer's: nobody in front of this Envoy is trusted to set X-Forwarded-For.
        use_remote_address=True,
        xff_num_trusted_hops=0,
        # Routes match paths, so a path must have one spelling only.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=escaped_slashes.REJECT_REQUEST,
        strip_any_host_port=True,
        generate_request_id=True,
        server_header_transformation=server_header.PASS_THROUGH,
        # The only bound on a hung FULL_DUPLEX_STREAMED service; routes set their own.
        stream_idle_timeout=seconds(300),
        request_headers_timeout=seconds(10),
        # For slow uploads: it ends with the last byte of the request, so long answers are not cut.
        request_timeout=seconds(60),
        max_request_headers_kb=32,
        http_protocol_options=core.Http1ProtocolOptions(allow_chunked_length=False, enable_trailers=False),
        http2_protocol_options=core.Http2ProtocolOptions(
            max_concurrent_streams=100,
            initial_stream_window_size=65536,
            initial_connection_window_size=1024 * 1024,
        ),
        common_http_protocol_options=core.HttpProtocolOptions(
            idle_timeout=seconds(3600),
            max_headers_count=64,
            # An x_gateway_… twin would pass a check for x-gateway-, and some servers read _ as -. Refusing
            # the request (REJECT_REQUEST) is a connection closed without a word.
            headers_with_underscores_action=core.HttpProtocolOptionsHeadersWithUnderscoresAction.DROP_HEADER,
        ),
        early_header_mutation_extensions=[
            extension(
                "envoy.http.early_header_mutation.header_mutation",
                EarlyHeaderMutation(mutations=header_mutations(routes.edge.trusted_headers)),
            )
        ],
        local_reply_config=local_reply_config(),
        access_log=access_logs(addresses.access_log),
        http_filters=http_filters(routes.services),
        route_config=route_configuration(routes),
    )


def header_mutations(trusted: tuple[str, ...]) -> list[mutation.HeaderMutation]:
    """Strip control headers before the route is chosen; a filter would be too late.

    Matchers cannot say "all but these", so the trusted values are set aside, their prefix removed, and put back.
    """
    return [
        *(_remove(KEPT + name) for name in trusted),
        *(_copy(name, KEPT + name) for name in trusted),
        *(_remove_prefix(prefix) for prefix in (*CONTROL_PREFIXES, "x-envoy-")),
        *(_copy(KEPT + name, name) for name in trusted),
        *(_remove(KEPT + name) for name in trusted),
        *(_remove(name) for name in REMOVED),
    ]


def _remove(name: str) -> mutation.HeaderMutation:
    return mutation.HeaderMutation(remove=name)


def _remove_prefix(prefix: str) -> mutation.HeaderMutation:
    return mutation.HeaderMutation(
        remove_on_match=mutation.HeaderMutationRemoveOnMatch(key_matcher=StringMatcher(prefix=prefix))
    )


def _copy(source: str, target: str) -> mutation.HeaderMutation:
    """Set `target` to the value of `source`; without one, nothing is set."""
    return mutation.HeaderMutation(append=set_header(target, f"%REQ({source})%"))
