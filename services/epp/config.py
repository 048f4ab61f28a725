"""The endpoint picker's configuration: the reference's `EndpointPickerConfig`, and what stands in for Kubernetes.

The classes are the reference page of the file. The reference's keys are in camel case, our own in snake case.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.epp.endpoints import split
from services.extproc.config import Limits, Listen, Log

Name = Annotated[str, Meta(min_length=1, max_length=253)]
Seconds = Annotated[float, Meta(gt=0)]
Port = Annotated[int, Meta(ge=1, le=65535)]

_REFERENCE = {
    "api_version": "apiVersion",
    "scheduling_profiles": "schedulingProfiles",
    "saturation_detector": "saturationDetector",
}

API_VERSIONS = Literal["llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"]


class PluginSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plugin to be made."""

    type: Name
    name: str = ""
    """What profiles refer to; the type when empty."""
    parameters: dict[str, object] = {}


class PluginRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A plugin's part in a profile."""

    plugin_ref: Name
    weight: Annotated[float, Meta(ge=0)] | None = None
    """A scorer's share in the total; 1 when not given. Filters and pickers have none."""


class ProfileSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Filters in this order, scorers, and at most one picker (`max-score-picker` when none is named)."""

    name: Name
    plugins: list[PluginRef]


class DetectorRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Which plugin says how full a pool is."""

    plugin_ref: Name = "utilization-detector"


class Dns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name of which every A and AAAA record is a model server."""

    host: Name
    port: Port


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


class PoolSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Servers that can stand in for each other."""

    name: Name
    endpoints: list[str] = []
    """`host:port` or `http://host:port`. A name stands for every address that it resolves to."""
    dns: list[Dns] = []
    resolve_interval_seconds: Seconds = 5.0
    metrics: Scrape = Scrape()

    def __post_init__(self) -> None:
        for endpoint in self.endpoints:
            target(endpoint)

    def targets(self) -> list[tuple[str, int]]:
        """Return host and port of everything that may have to be resolved."""
        return [target(endpoint) for endpoint in self.endpoints] + [(dns.host, dns.port) for dns in self.dns]


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A priority by name. Requests name it in a header, or ask for a model of that name."""

    name: Name
    priority: int
    """Higher is more important; below 0 a request is shed when its pool is saturated."""


class InFlightLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is believed of requests in flight."""

    lease_seconds: Seconds = 600.0
    """When the end of a request was never reported, it stops counting after this."""


class Redis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where replicas share their state. Without a URL a replica stands alone."""

    url: str = ""


class EndpointPickerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=_REFERENCE):
    """The whole file."""

    api_version: API_VERSIONS
    kind: Literal["EndpointPickerConfig"]
    plugins: list[PluginSpec] = []
    scheduling_profiles: list[ProfileSpec] = []
    saturation_detector: DetectorRef = DetectorRef()
    pools: list[PoolSpec] = []
    objectives: list[Objective] = []
    in_flight: InFlightLimits = InFlightLimits()
    redis: Redis = Redis()
    listen: Listen = Listen(port=9002, health_port=9003, metrics_port=9092)
    log: Log = Log()
    limits: Limits = Limits()


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
