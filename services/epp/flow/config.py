"""The reference's `flowControl`, and what it has no key for. Numbers may be quantities (`1Gi`), times are Go's (`1m30s`)."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from services.epp.reference_config import DetectorRef, Name

Quantity = int | str
Duration = str

_SPELLING = {"default_request_ttl": "defaultRequestTTL", "no_endpoint_request_ttl": "noEndpointRequestTTL"}
_OURS = frozenset({"max_wait_seconds", "oldest_every"})
_POWERS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_QUANTITY = re.compile(r"(\d{1,15})(k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(h|ms|us|µs|ns|m|s)")


def _spelled(name: str) -> str:
    if name in _OURS:
        return name
    head, *rest = name.split("_")
    return _SPELLING.get(name) or head + "".join(word.capitalize() for word in rest)


def number(quantity: Quantity) -> int:
    """Return a quantity as Kubernetes writes it; raise ValueError for anything else, and below 1."""
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None or not int(match[1]):
        raise ValueError(f"expected a number above 0 like 5000 or 1Gi, got {quantity!r}")
    return int(match[1]) * _POWERS[match[2] or ""]


def seconds(duration: Duration) -> float:
    """Return a duration as Go writes it; raise ValueError for anything else, and for 0: nothing waits for ever."""
    parts = _PART.findall(duration)
    total = sum(float(value) * _UNITS[unit] for value, unit in parts)
    if "".join(value + unit for value, unit in parts) != duration or total <= 0:
        raise ValueError(f"expected a time above 0 like 500ms or 1m30s, got {duration!r}")
    return total


def _check(spec: msgspec.Struct, *, quantities: tuple[str, ...], durations: tuple[str, ...]) -> None:
    for names, read in ((quantities, number), (durations, seconds)):
        for name in names:
            if (value := getattr(spec, name)) is None:
                continue
            try:
                read(value)
            except ValueError as error:
                raise ValueError(f"{_spelled(name)}: {error}") from error


class BandTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=_spelled):
    """One priority's queue."""

    max_bytes: Quantity | None = None
    max_requests: Quantity | None = None
    fairness_policy_ref: Name = "global-strict-fairness-policy"
    """`global-strict-`, `round-robin-` or `weighted-tokens-fairness-policy`."""
    ordering_policy_ref: Name = "fcfs-ordering-policy"
    """`fcfs-`, `edf-` or `slo-deadline-ordering-policy`."""
    default_request_ttl: Duration | None = None

    def __post_init__(self) -> None:
        _check(self, quantities=("max_bytes", "max_requests"), durations=("default_request_ttl",))


class PriorityBand(BandTemplate, frozen=True, forbid_unknown_fields=True, kw_only=True, rename=_spelled):
    """The queue of one named priority."""

    priority: int


class FlowControl(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=_spelled):
    """Who waits for a place, and for how long. In force with the feature gate `flowControl`."""

    saturation_detector: DetectorRef | None = None
    """The newer place for `saturationDetector`."""
    max_bytes: Quantity | None = None
    """Of all bands of a pool."""
    max_requests: Quantity | None = None
    default_request_ttl: Duration = "60s"
    no_endpoint_request_ttl: Duration | None = None
    """While no server is ready; like `defaultRequestTTL` when left out."""
    default_priority_band: BandTemplate = BandTemplate()
    default_negative_priority_band: BandTemplate | None = None
    priority_bands: list[PriorityBand] = []
    usage_limit_policy_plugin_ref: str | None = None
    enable_eviction: bool = False
    """Take sheddable requests back from servers while their answer has not begun. Needs a filter that waits for it."""
    max_wait_seconds: Annotated[float, Meta(gt=0.5)] = 60.0
    """No request waits longer. Envoy grants no more than `max_message_timeout`, and a request for more not at all."""
    oldest_every: Annotated[int, Meta(ge=0)] = 20
    """One dispatch in so many goes to the request that has waited longest, whatever its priority; 0: none."""

    def __post_init__(self) -> None:
        _check(
            self,
            quantities=("max_bytes", "max_requests"),
            durations=("default_request_ttl", "no_endpoint_request_ttl"),
        )
        if self.usage_limit_policy_plugin_ref is not None:
            raise ValueError("usageLimitPolicyPluginRef: is not supported; a pool is full at saturation 1")
        priorities = [band.priority for band in self.priority_bands]
        if len(set(priorities)) < len(priorities):
            raise ValueError("priorityBands: a priority has two bands")
        if (longest := self._longest()) > self.max_wait_seconds:
            raise ValueError(f"a TTL of {longest:g} s is above max_wait_seconds ({self.max_wait_seconds:g})")

    def _longest(self) -> float:
        bands = (self.default_priority_band, self.default_negative_priority_band, *self.priority_bands)
        own = [band.default_request_ttl for band in bands if band is not None]
        return max(
            seconds(ttl) for ttl in (self.default_request_ttl, self.no_endpoint_request_ttl, *own) if ttl
        )
