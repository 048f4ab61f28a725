"""The reference's part of the file: `EndpointPickerConfig`, version v1alpha1, in its own spelling.

What it can say and this picker does not do is refused here by name, so that nothing is silently ignored.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta

from services.epp.unsupported import FEATURE_GATES

Name = Annotated[str, Meta(min_length=1, max_length=253)]

SUPPORTED_GATES = ("flowControl",)


class PluginSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plugin to be made."""

    type: Name
    name: str = ""
    """What profiles refer to; the type when empty."""
    parameters: dict[str, object] = {}

    @property
    def label(self) -> str:
        """Return the name, or what stands in for it."""
        return self.name or self.type


class PluginRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A plugin's part in a profile."""

    plugin_ref: Name
    weight: Annotated[float, Meta(ge=0)] | None = None
    """A scorer's share in the total; 1 when not given. Filters and pickers have none."""


class ProfileSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Filters in this order, scorers, and at most one picker.

    Without one it is the first picker under `plugins`, or `max-score-picker`.
    """

    name: Name
    plugins: list[PluginRef]


class DetectorRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Which plugin says how full a pool is."""

    plugin_ref: Name = "utilization-detector"


class ParserRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Which APIs are read: always OpenAI's and Anthropic's, by path. A file may say so."""

    plugin_ref: Name


class RequestHandler(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newer place for parsers."""

    parsers: list[ParserRef] = []


class ExtractorRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What reads a source's answers."""

    plugin_ref: Name


class SourceRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where news of the servers comes from."""

    plugin_ref: Name
    extractors: list[ExtractorRef] = []


class DataLayer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The servers' metrics, which are always asked for: `metrics-data-source` with `core-metrics-extractor`."""

    inject_defaults: bool = True
    sources: list[SourceRef] = []
    discovery: object = UNSET
    peer_discovery: object = UNSET
    cross_replica_syncer_plugin_ref: object = UNSET
    cross_replica_sync_interval: object = UNSET

    def __post_init__(self) -> None:
        if not self.inject_defaults:
            raise ValueError("injectDefaults: false is not supported; set $.pools[].metrics.enabled: false")
        if self.discovery is not UNSET:
            raise ValueError("discovery: is not supported; name members under $.pools[].endpoints or dns")
        if self.peer_discovery is not UNSET:
            raise ValueError("peerDiscovery: is not supported; replicas meet in Redis ($.redis.url)")
        if self.cross_replica_syncer_plugin_ref is not UNSET or self.cross_replica_sync_interval is not UNSET:
            raise ValueError(
                "crossReplicaSyncer…: is not supported; replicas share through Redis ($.redis.url)"
            )


def refuse_gates(gates: list[str]) -> None:
    """Raise ValueError for a feature gate that does nothing here."""
    for index, gate in enumerate(gates):
        if gate not in SUPPORTED_GATES:
            why = FEATURE_GATES.get(gate, f"supported are {', '.join(SUPPORTED_GATES)}")
            raise ValueError(f"featureGates[{index}]: {gate!r} is not supported: {why}")
