"""The ext_proc filters: who sees which part of a request and an answer, and what each may change."""

from __future__ import annotations

from datetime import timedelta

import re2
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.http.header_to_metadata import v3 as header_to_metadata
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode

from tools.gateway.envoy.clusters import grpc_service
from tools.gateway.envoy.typed import packed, seconds
from tools.gateway.routes import BbrCall, EppCall, ServiceCall, Services

SEND = ext_proc.ProcessingModeHeaderSendMode.SEND
SKIP = ext_proc.ProcessingModeHeaderSendMode.SKIP
NONE = ext_proc.ProcessingModeBodySendMode.NONE
BUFFERED = ext_proc.ProcessingModeBodySendMode.BUFFERED
FULL_DUPLEX_STREAMED = ext_proc.ProcessingModeBodySendMode.FULL_DUPLEX_STREAMED

BBR_RESPONSE = "bbr-response"
"""BBR once more, for answers. Off except on routes for requests that it renamed, which have the header `RENAMED`, or
on all routes with a model where its response plugins want that."""
RENAMED = "x-gateway-client-model-name"
"""The model as the client wrote it; set by BBR where the server is asked for another name."""

BBR_METADATA = "gw.bbr"
EPP_METADATA = "gw.epp"
LB_METADATA = "envoy.lb"

REFUSAL_HEADERS = "content-type|retry-after"
"""The rules apply to a service's own refusals too: without these a JSON error turns into text/plain."""


def http_filters(services: Services) -> list[HttpFilter]:
    """BBR, safety, EPP, router: in the order in which a request passes them; answers pass them the other way."""
    return [
        HttpFilter(name="bbr", typed_config=packed(_bbr(services.bbr))),
        # Behind safety on the way back: safety judges what the server said, and knows the model by its own name.
        HttpFilter(name=BBR_RESPONSE, typed_config=packed(_bbr_response(services.bbr))),
        HttpFilter(name="safety", typed_config=packed(_safety(services.safety))),
        HttpFilter(name="epp", typed_config=packed(_epp(services.epp))),
        _router(),
    ]


def leg_filters(services: Services, *, digest_header: str) -> list[HttpFilter]:
    """As at the edge, but the prompt is judged already, and the digest comes as a header."""
    return [
        HttpFilter(name="digest", typed_config=packed(_digest_from(digest_header))),
        HttpFilter(name="bbr", typed_config=packed(_bbr(services.bbr))),
        HttpFilter(name=BBR_RESPONSE, typed_config=packed(_bbr_response(services.bbr))),
        HttpFilter(name="epp", typed_config=packed(_epp(services.epp))),
        _router(),
    ]


def safety_mode(*, answers: bool) -> ext_proc.ProcessingMode:
    """Prompts whole; answers as they stream, or not at all."""
    return ext_proc.ProcessingMode(
        # With SKIP, header changes in the reply to the body would be dropped without a word.
        request_header_mode=SEND,
        request_body_mode=BUFFERED,
        request_trailer_mode=SKIP,
        response_header_mode=SEND if answers else SKIP,
        response_body_mode=FULL_DUPLEX_STREAMED if answers else NONE,
        # Obligatory with FULL_DUPLEX_STREAMED.
        response_trailer_mode=SEND if answers else SKIP,
    )


def _bbr(call: BbrCall) -> ext_proc.ExternalProcessor:
    return ext_proc.ExternalProcessor(
        stat_prefix="bbr",
        grpc_service=_grpc("bbr"),
        processing_mode=ext_proc.ProcessingMode(
            request_header_mode=SEND,
            request_body_mode=BUFFERED,
            request_trailer_mode=SKIP,
            response_header_mode=SKIP,
            response_trailer_mode=SKIP,
        ),
        message_timeout=seconds(call.timeout_seconds),
        max_message_timeout=_longest(call),
        failure_mode_allow=call.fail_open,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        # content-length belongs to a body that BBR rewrote; a model's name may also stand in the path.
        mutation_rules=_may_change(f"x-gateway-.*|:path|content-length|{REFUSAL_HEADERS}", *call.headers),
        metadata_options=_metadata(receiving=[BBR_METADATA]),
    )


def _bbr_response(call: BbrCall) -> ext_proc.ExternalProcessor:
    """Return the filter that puts the client's own name of the model into the answer; metadata tells BBR which."""
    return ext_proc.ExternalProcessor(
        stat_prefix=BBR_RESPONSE.replace("-", "_"),
        grpc_service=_grpc("bbr"),
        processing_mode=ext_proc.ProcessingMode(
            request_header_mode=SKIP,
            request_body_mode=NONE,
            request_trailer_mode=SKIP,
            response_header_mode=SEND,
            response_body_mode=FULL_DUPLEX_STREAMED,
            response_trailer_mode=SEND,
        ),
        message_timeout=seconds(call.timeout_seconds),
        # A name is no reason to lose an answer.
        failure_mode_allow=True,
        route_cache_action=ext_proc.ExternalProcessorRouteCacheAction.RETAIN,
        mutation_rules=_may_change("content-length", *call.answer_headers),
        metadata_options=_metadata(forwarding=[BBR_METADATA], receiving=[]),
        response_attributes=["response.code_details"],
    )


def _digest_from(header: str) -> header_to_metadata.Config:
    """Return the filter that gives the EPP the digest as it gets it at the edge."""
    target = header_to_metadata.ConfigKeyValuePair(metadata_namespace=BBR_METADATA, key="digest")
    rule = header_to_metadata.ConfigRule(header=header, on_header_present=target, remove=True)
    return header_to_metadata.Config(request_rules=[rule])


def _router() -> HttpFilter:
    return HttpFilter(
        name="envoy.filters.http.router", typed_config=packed(router.Router(suppress_envoy_headers=True))
    )


def _safety(call: ServiceCall) -> ext_proc.ExternalProcessor:
    return ext_proc.ExternalProcessor(
        stat_prefix="safety",
        grpc_service=_grpc("safety"),
        processing_mode=safety_mode(answers=True),
        message_timeout=seconds(call.timeout_seconds),
        max_message_timeout=_longest(call),
        failure_mode_allow=call.fail_open,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        # Only BBR chooses the route.
        route_cache_action=ext_proc.ExternalProcessorRouteCacheAction.RETAIN,
        # accept-encoding: it asks servers for plain answers, also behind edges that do not. x-request-id: its refusals name it.
        mutation_rules=_may_change(
            f"x-gateway-.*|accept-encoding|content-length|x-request-id|{REFUSAL_HEADERS}"
        ),
        metadata_options=_metadata(forwarding=[BBR_METADATA], receiving=["gw.safety"]),
        request_attributes=["xds.route_name", "request.id"],
        # Tells an answer of a model server (via_upstream) from one that Envoy or another service made.
        response_attributes=["response.code_details"],
    )


def _epp(call: EppCall) -> ext_proc.ExternalProcessor:
    """Headers and BBR's digest are enough to pick an endpoint; the end of the request comes by the access log."""
    return ext_proc.ExternalProcessor(
        stat_prefix="epp",
        grpc_service=_grpc("epp"),
        processing_mode=ext_proc.ProcessingMode(
            request_header_mode=SEND,
            request_body_mode=NONE,
            request_trailer_mode=SKIP,
            # Without a head to wait for, Envoy closes the stream with the pick.
            response_header_mode=SEND if call.evictable else SKIP,
            response_body_mode=NONE,
            response_trailer_mode=SKIP,
        ),
        message_timeout=seconds(call.timeout_seconds),
        max_message_timeout=_longest(call),
        failure_mode_allow=call.fail_open,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        route_cache_action=ext_proc.ExternalProcessorRouteCacheAction.RETAIN,
        # x-prefiller-host-port and x-encoder-hosts-ports go to the decoding server, x-session-token to the client.
        mutation_rules=_may_change(
            f"x-gateway-.*|x-llm-d-.*|x-(prefill|encod)er-host.*|x-session-token|{REFUSAL_HEADERS}"
        ),
        # Without envoy.lb among the received ones the pick would be dropped. gw.bbr: the EPP blanks the digest, which
        # would else come back to it, kilobytes long, in every access log entry.
        metadata_options=_metadata(
            forwarding=[BBR_METADATA, LB_METADATA, "envoy.lb.subset_hint"],
            receiving=[LB_METADATA, EPP_METADATA, BBR_METADATA],
        ),
        # xds.node.id: with the peer's address it tells the EPP which Envoy a pick was for, should that one die.
        request_attributes=["xds.cluster_name", "xds.node.id"],
    )


def _grpc(name: str) -> core.GrpcService:
    # Another replica is tried when one is gone. Envoy's default back-off for gRPC outlasts the message timeout.
    back_off = core.BackoffStrategy(base_interval=seconds(0.005), max_interval=seconds(0.05))
    retry = core.RetryPolicy(
        num_retries=2,
        # reset: one that died with the question in its hands; unavailable: one that just started and is not ready.
        # Nothing is asked again once it began to answer.
        retry_on="connect-failure,refused-stream,reset,unavailable",
        retry_back_off=back_off,
        # A dead replica has the fewest requests until health checks notice, so that it would be chosen each time.
        retry_host_predicate=[
            core.RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=packed(PreviousHostsPredicate()),
            )
        ],
        host_selection_retry_max_attempts=64,  # also where most are dead
    )
    return grpc_service(name, retry_policy=retry)


def _longest(call: ServiceCall) -> timedelta | None:
    return None if call.max_timeout_seconds is None else seconds(call.max_timeout_seconds)


def _may_change(names: str, *more: str) -> HeaderMutationRules:
    regex = "|".join((names, *map(re2.escape, more)))
    return HeaderMutationRules(disallow_all=True, allow_expression=RegexMatcher(regex=regex))


def _metadata(*, forwarding: list[str] | None = None, receiving: list[str]) -> ext_proc.MetadataOptions:
    namespaces = ext_proc.MetadataOptionsMetadataNamespaces
    return ext_proc.MetadataOptions(
        forwarding_namespaces=namespaces(untyped=forwarding) if forwarding else None,
        receiving_namespaces=namespaces(untyped=receiving) if receiving else None,
    )
