"""The endpoint picker's configuration: the reference's `EndpointPickerConfig`, and what stands in for Kubernetes.

The classes are the reference page of the file. The reference's keys are in camel case, our own in snake case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from services.epp.endpoints import split
from services.epp.flow.config import FlowControl
from services.epp.kvevents.index import DEFAULT_BLOCKS
from services.epp.reference_config import (
    DataLayer,
    DetectorRef,
    Name,
    ParserRef,
    PluginSpec,
    ProfileSpec,
    RequestHandler,
    refuse_gates,
)
from services.epp.rewrite_config import RewriteSpec
from services.extproc.config import Limits, Listen, Log
from services.tokens.config import TokenSource

Seconds = Annotated[float, Meta(gt=0)]
Port = Annotated[int, Meta(ge=1, le=65535)]

_REFERENCE = {
    "api_version": "apiVersion",
    "feature_gates": "featureGates",
    "scheduling_profiles": "schedulingProfiles",
    "saturation_detector": "saturationDetector",
    "flow_control": "flowControl",
    "request_handler": "requestHandler",
    "data_layer": "dataLayer",
}
"""The reference's keys are in camel case; ours, in snake case, cannot be taken for them."""

API_VERSIONS = Literal["llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"]


class Dns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name of which every A and AAAA record is a model server."""

    host: Name
    port: Port
    labels: dict[str, str] = {}


class Scrape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a pool's servers are asked for their metrics."""

    enabled: bool = True
    """Without metrics every member counts as ready, and only what was sent to it counts as its load."""
    scheme: Literal["http", "https"] = "http"
    path: Annotated[str, Meta(pattern="^/")] = "/metrics"
    interval_seconds: Seconds = 0.2
    """One scrape costs about 0.4 ms of this process: 50 servers at five a second take a tenth of a core. What is
    sent between two scrapes counts at once all the same."""
    timeout_seconds: Seconds = 1.0
    misses: Annotated[int, Meta(ge=1)] = 3
    """Failed scrapes in a row after which a server gets no requests."""


EVENTS_PORT, REPLAY_PORT = "inference-gateway/kv-events-port", "inference-gateway/kv-replay-port"
"""Labels of an endpoint that tells of its cache at another port than its pool's."""


class KvEvents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a pool's servers tell what they have cached (vLLM's `--kv-events-config`). Needs the extra `kv-events`."""

    port: Port = 5557
    """Of the publisher; an endpoint's label `inference-gateway/kv-events-port` overrides it."""
    replay_port: Port | None = None
    """Of vLLM's `replay_endpoint`; the label `inference-gateway/kv-replay-port` overrides it. Without one a server's
    view has to begin anew whenever messages are missing."""
    topic: str = ""
    """What the topics that count begin with; all of them when empty."""
    replay_timeout_seconds: Seconds = 5.0
    check_seconds: Seconds = 5.0
    """After so long without a word a server is asked whether there was one that is lost."""
    max_blocks: Annotated[int, Meta(ge=1)] = DEFAULT_BLOCKS
    """Blocks times holders remembered for the pool."""


class EndpointSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An endpoint with what the operator says about it."""

    url: str
    """As a plain entry of `endpoints`."""
    labels: dict[str, str] = {}
    """As Kubernetes labels of a pod; every address that the name stands for gets them."""


class Target(NamedTuple):
    """What may have to be resolved, and the labels of what comes out."""

    host: str
    port: int
    labels: Mapping[str, str]


class PoolSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Servers that can stand in for each other."""

    name: Name
    endpoints: list[str | EndpointSpec] = []
    """`host:port` or `http://host:port`, alone or as `{url, labels}`. A name stands for every address that it
    resolves to."""
    dns: list[Dns] = []
    resolve_interval_seconds: Seconds = 5.0
    metrics: Scrape = Scrape()
    kv_events: KvEvents | None = None
    """None: what servers hold is estimated from what they were sent."""
    tokens: TokenSource | None = None
    """Where the tokens of prompts come from when requests bring no digest: without our router in front."""
    profile: str = ""
    """The scheduling profile that decides here, past the profile handler; empty: the handler decides."""

    def __post_init__(self) -> None:
        self.targets()

    def targets(self) -> list[Target]:
        """Return everything that may have to be resolved."""
        return [_target_of(endpoint) for endpoint in self.endpoints] + [
            Target(dns.host, dns.port, dns.labels) for dns in self.dns
        ]


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A priority by name. Requests name it in a header, or ask for a model of that name."""

    name: Name
    priority: int
    """Higher is more important; below 0 a request is shed when its pool is saturated."""


class InFlightLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is believed of requests in flight."""

    lease_seconds: Seconds = 600.0
    """When the end of a request was never reported, it stops counting after this."""


class Explain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which decisions are explained. One whose request has the header `x-gateway-explain: true` always is."""

    keep: Annotated[int, Meta(ge=0, le=10_000)] = 200
    """The last so many are at `/debug/decisions` of the metrics port, for callers on this machine. One is some
    kilobytes for 16 servers."""
    sample: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the other requests."""


class Redis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where replicas share their state. Without a URL a replica stands alone. `docs/shared-state.md`."""

    url: str = ""
    """`redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `redis+cluster://`."""
    password_file: str = ""
    """Where the password is; without, the variable INFERENCE_GATEWAY_REDIS_PASSWORD or the URL may have it."""
    prefix: Annotated[str, Meta(min_length=1, pattern="^[^{}]*$")] = "igw"
    """Of all keys: gateways with pools of the same names can share a Redis."""
    timeout_seconds: Seconds = 1.0
    """Of one operation. Requests never wait for one."""
    batch_seconds: Annotated[float, Meta(ge=0.001, le=0.1)] = 0.02
    """News of so long go together. Less is dearer, more makes replicas differ."""
    lease_seconds: Annotated[float, Meta(ge=0.5, le=60)] = 3.0
    """A replica that is not heard of for so long is gone, and what it had in flight does not count."""
    stream_length: Annotated[int, Meta(ge=1000)] = 100_000
    """Batches that a new replica can learn prefixes from, some 0.5 KB each."""
    buffer_entries: Annotated[int, Meta(ge=100)] = 20_000
    """News of each kind and pool that wait while Redis does not answer; the oldest go."""
    warm_start_seconds: Annotated[float, Meta(ge=0)] = 5.0
    """A new replica takes requests once it has read what the others know, or after this."""


class EndpointPickerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=_REFERENCE):
    """The whole file."""

    api_version: API_VERSIONS
    kind: Literal["EndpointPickerConfig"]
    feature_gates: list[str] = []
    plugins: list[PluginSpec] = []
    scheduling_profiles: list[ProfileSpec] = []
    saturation_detector: DetectorRef | None = None
    flow_control: FlowControl = FlowControl()
    parser: ParserRef | None = None
    request_handler: RequestHandler = RequestHandler()
    data_layer: DataLayer = DataLayer()
    pools: list[PoolSpec] = []
    default_pool: str = ""
    """For requests that name no pool. A single pool needs no naming."""
    zone: str = ""
    """Where this gateway runs, as the label `topology.kubernetes.io/zone` has it; INFERENCE_GATEWAY_ZONE overrides."""
    objectives: list[Objective] = []
    rewrites: list[RewriteSpec] = []
    """Count where the picker reads bodies itself; a router in front has rewrites of its own."""
    in_flight: InFlightLimits = InFlightLimits()
    explain: Explain = Explain()
    redis: Redis = Redis()
    listen: Listen = Listen(port=9002, health_port=9003, metrics_port=9092)
    log: Log = Log()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        refuse_gates(self.feature_gates)
        if self.saturation_detector is not None and self.flow_control.saturation_detector is not None:
            raise ValueError("saturationDetector and flowControl.saturationDetector say the same: keep one")

    @property
    def detector(self) -> tuple[str, str]:
        """Return where the saturation detector is named, and its name."""
        if self.flow_control.saturation_detector is not None:
            return "$.flowControl.saturationDetector", self.flow_control.saturation_detector.plugin_ref
        return "$.saturationDetector", (self.saturation_detector or DetectorRef()).plugin_ref


def _target_of(endpoint: str | EndpointSpec) -> Target:
    if isinstance(endpoint, str):
        return Target(*target(endpoint), {})
    return Target(*target(endpoint.url), endpoint.labels)


def target(text: str) -> tuple[str, int]:
    """Return host and port of an endpoint as the configuration spells it; raise ValueError saying what is wrong."""
    if text.startswith("https://"):
        raise ValueError(
            f"{text!r}: the proxy speaks to the servers; write host:port, and metrics.scheme: https"
        )
    host, port = split(text.removeprefix("http://").removesuffix("/"))
    if "/" in host:
        raise ValueError(f"expected host:port or http://host:port, got {text!r}")
    return host, port
