"""What is recorded: one exchange per scenario, and which filter's stream of it is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from tests.e2e.harness import config
from tests.e2e.harness.clients import Answer, Ask, http1, http2
from tests.e2e.harness.envoy import Config
from tests.e2e.harness.lab import Places, Plan, chain, together
from tests.e2e.harness.scripted import Script, Style, pick

JSON = b'{"model": "llama", "messages": [{"role": "user", "content": "hi"}]}'
PIECES = (JSON[:20], 0.05, JSON[20:])  # the pause makes them two chunks
TRAILERS = (("x-checksum", "1"), ("x-checksum", "2"))
DIGEST = {"gw.bbr": {"digest": "lgGlbGxhbWHCAQDEAA==", "model": "llama"}}

PICK = pick("the backend")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One exchange, of which the last filter's stream is kept."""

    what: str
    scripts: tuple[Script, ...]
    ask: Ask = field(default_factory=lambda: Ask("/sha1", (JSON,)))
    send: Callable[[int, Ask], Awaitable[Answer]] = http1
    cluster: str = "backend"


def asks(style: Style, **options: object) -> Script:
    """Return a script that sees the request alone."""
    return Script(request=style, options=options)


def answers(style: Style, **options: object) -> Script:
    """Return a script that sees the response alone."""
    return Script(request=Style.SKIP, response=style, options=options)


GET_EVENTS = Ask("/events", method="GET")
# Envoy keeps the stream open for a while, so that a late reply does no harm; the recording need not wait 5 s.
OBSERVED = {"observability_mode": True, "deferred_close_timeout": "0.5s"}
ATTRIBUTES = {
    "request_attributes": ["xds.route_name", "xds.cluster_name", "request.path"],
    "response_attributes": ["response.code", "response.code_details"],
}

SCENARIOS: Mapping[str, Scenario] = {
    "request-get": Scenario(
        "no body: the stream ends on the headers", (asks(Style.BUFFERED),), Ask("/sha1", method="GET")
    ),
    "request-empty": Scenario("`content-length: 0`", (asks(Style.BUFFERED),), Ask("/sha1", (b"",))),
    "request-empty-chunked": Scenario(
        "a chunked body without a byte", (asks(Style.ECHO),), Ask("/sha1", (b"",), chunked=True)
    ),
    "request-headers-only": Scenario("a body that the filter does not see", (asks(Style.HEADERS),)),
    "request-buffered": Scenario("one message with the whole body", (asks(Style.BUFFERED),)),
    "request-streamed": Scenario("each chunk in a message", (asks(Style.STREAMED),), Ask("/sha1", PIECES)),
    "request-streamed-early": Scenario(
        "the body comes without waiting for the header reply",
        (asks(Style.STREAMED, send_body_without_waiting_for_header_response=True),),
        Ask("/sha1", PIECES),
    ),
    "request-full-duplex": Scenario(
        "HTTP/1.1: an empty chunk ends the body", (asks(Style.HOLD),), Ask("/sha1", PIECES)
    ),
    "request-full-duplex-h2": Scenario(
        "HTTP/2: the end comes after the last chunk", (asks(Style.HOLD),), Ask("/sha1", PIECES), http2
    ),
    "request-trailers": Scenario(
        "trailers end the body, which itself has no end",
        (asks(Style.HOLD),),
        Ask("/sha1", PIECES, trailers=TRAILERS),
        http2,
    ),
    "request-streamed-trailers": Scenario(
        "trailers in STREAMED mode", (asks(Style.STREAMED),), Ask("/sha1", PIECES, trailers=TRAILERS), http2
    ),
    "request-repeated-headers": Scenario(
        "names repeat, and a value is not UTF-8",
        (asks(Style.HEADERS),),
        Ask(
            "/sha1",
            (JSON,),
            (
                ("X-Mixed", "a"),
                ("x-mixed", "b"),
                ("cookie", "c=1"),
                ("cookie", "d=2"),
                ("x-latin", "caf\xe9"),
            ),
        ),
    ),
    "request-metadata": Scenario(
        "the digest that an earlier filter set",
        (Script(request=Style.BUFFERED, metadata=DIGEST), asks(Style.HEADERS)),
    ),
    "request-attributes": Scenario(
        "attributes that the filter asks for", (asks(Style.HEADERS, **ATTRIBUTES),)
    ),
    "request-observed": Scenario(
        "observability mode: no reply is wanted",
        (asks(Style.STREAMED, **OBSERVED),),
        Ask("/sha1", PIECES),
    ),
    "response-headers-only": Scenario("the head of an answer", (answers(Style.HEADERS),), GET_EVENTS),
    "response-empty": Scenario(
        "an answer without a body", (answers(Style.ECHO),), Ask("/status/204", method="GET")
    ),
    "response-buffered": Scenario(
        "one message with the whole body", (answers(Style.BUFFERED),), Ask("/halves", method="GET")
    ),
    "response-streamed": Scenario("server-sent events, STREAMED", (answers(Style.STREAMED),), GET_EVENTS),
    "response-full-duplex": Scenario("server-sent events, full-duplex", (answers(Style.ECHO),), GET_EVENTS),
    "response-trailers": Scenario(
        "the answer ends in trailers", (answers(Style.ECHO),), Ask("/trailers", method="GET")
    ),
    "response-observed": Scenario(
        "server-sent events in observability mode",
        (answers(Style.STREAMED, **OBSERVED),),
        GET_EVENTS,
    ),
    "response-first": Scenario(
        "a refusal by an earlier filter: the request was never seen",
        (Script(refuse=404), answers(Style.ECHO)),
    ),
    "response-first-both-sides": Scenario(
        "the same at a filter that also wants requests",
        (Script(refuse=404), Script(request=Style.BUFFERED, response=Style.ECHO)),
    ),
    "response-local": Scenario(
        "Envoy's own 503, told apart by its details",
        (Script(response=Style.ECHO, options=ATTRIBUTES),),
        cluster="dead",
    ),
    "both-sides": Scenario(
        "request BUFFERED and response full-duplex, as in the safety filter",
        (Script(request=Style.BUFFERED, response=Style.ECHO),),
        Ask("/events", PIECES),
    ),
    "both-sides-headers": Scenario(
        "headers of both sides and nothing else", (Script(response=Style.HEADERS),), GET_EVENTS
    ),
    "both-sides-served": Scenario(
        "the endpoint that served, as the load balancer says it",
        (Script(response=Style.HEADERS, metadata=PICK, options=ATTRIBUTES),),
        cluster="pool",
    ),
}


def _placed(script: Script, places: Places) -> Script:
    """Put the backend's address where a script picks an endpoint."""
    return replace(script, metadata=pick(places.list(places.backend))) if script.metadata == PICK else script


def plan(places: Places) -> Plan:
    """Return a listener per scenario."""
    plans = []
    for name, scenario in SCENARIOS.items():
        scripts = [_placed(script, places) for script in scenario.scripts]
        route = config.route(scenario.cluster, name="the-route")
        # A request id would differ in every recording.
        plans.append(chain(name, scripts, [route], generate_request_id=False)[0])
    clusters: list[Config] = [
        config.cluster("dead", [places.dead]),
        config.cluster("pool", [places.backend], balancing=config.override_host()),
    ]
    return together(*plans, Plan([], {}, clusters))
