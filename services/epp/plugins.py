"""What a configuration can name: one table, and an entry-point group for plugins from elsewhere."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

import msgspec

from services.epp.flow.policies import (
    EarliestDeadline,
    FirstCome,
    GlobalStrict,
    RoundRobin,
    SloDeadline,
    WeightedTokens,
)
from services.epp.scheduling.filters.labels import ByLabel, LabelSelector
from services.epp.scheduling.filters.lora_capacity import LoraCapacity
from services.epp.scheduling.filters.named_by_header import NamedByHeader
from services.epp.scheduling.filters.prefix_affinity import PrefixCacheAffinity
from services.epp.scheduling.filters.role import DecodeRole, EncodeRole, PrefillRole
from services.epp.scheduling.filters.slo_headroom import SloHeadroomTier
from services.epp.scheduling.filters.utilization import UtilizationLimits
from services.epp.scheduling.handlers.by_header import HeaderProfile
from services.epp.scheduling.handlers.deciders import AlwaysDisaggregate, Multimodal, PrefixBased
from services.epp.scheduling.handlers.disagg import Disagg, pd_profile
from services.epp.scheduling.handlers.single import SingleProfile
from services.epp.scheduling.pickers.max_score import MaxScore
from services.epp.scheduling.pickers.power_of_two import PowerOfTwo
from services.epp.scheduling.pickers.random_order import Random
from services.epp.scheduling.pickers.weighted_random import WeightedRandom
from services.epp.scheduling.saturation import Concurrency, Utilization
from services.epp.scheduling.scorers.active_requests import ActiveRequests
from services.epp.scheduling.scorers.context_length import ContextLength
from services.epp.scheduling.scorers.cost import Cost
from services.epp.scheduling.scorers.kv_cache import KvCacheUtilization
from services.epp.scheduling.scorers.latency import Latency
from services.epp.scheduling.scorers.load_aware import LoadAware
from services.epp.scheduling.scorers.lora_affinity import LoraAffinity
from services.epp.scheduling.scorers.no_hit_lru import NoHitLru
from services.epp.scheduling.scorers.precise_prefix_cache import PrecisePrefixCache
from services.epp.scheduling.scorers.prefix_cache import PrefixCache
from services.epp.scheduling.scorers.queue import Queue
from services.epp.scheduling.scorers.request_load import RequestLoad
from services.epp.scheduling.scorers.running import RunningRequests
from services.epp.scheduling.scorers.session_affinity import session_affinity
from services.epp.scheduling.scorers.token_load import TokenLoad
from services.epp.scheduling.scorers.topology import TopologyAffinity, ZoneAffinity
from services.epp.unsupported import PARAMETERS as MOVED
from services.epp.unsupported import PLUGINS as UNSUPPORTED

ENTRY_POINTS = "inference_gateway.epp.plugins"
"""The group under which a package names its plugins: `my-scorer = "my_package:MyScorer"`."""


@dataclasses.dataclass(frozen=True, slots=True)
class AlwaysOn:
    """What always happens here and has no parameters; the reference's files declare it."""


BUILTIN: Mapping[str, Callable[..., object]] = {
    # Readiness and the subset hint are no choice: the director applies those filters to every request.
    "label-selector-filter": LabelSelector,
    "by-label": ByLabel,
    "decode-filter": DecodeRole,
    "prefill-filter": PrefillRole,
    "encode-filter": EncodeRole,
    "lora-capacity-filter": LoraCapacity,
    "prefix-cache-affinity-filter": PrefixCacheAffinity,
    "slo-headroom-tier-filter": SloHeadroomTier,
    "utilization-filter": UtilizationLimits,
    "header-based-testing-filter": NamedByHeader,
    "cost-scorer": Cost,
    "queue-scorer": Queue,
    "running-requests-size-scorer": RunningRequests,
    "request-load-scorer": RequestLoad,
    "kv-cache-utilization-scorer": KvCacheUtilization,
    "prefix-cache-scorer": PrefixCache,
    "precise-prefix-cache-scorer": PrecisePrefixCache,
    "lora-affinity-scorer": LoraAffinity,
    "token-load-scorer": TokenLoad,
    "active-request-scorer": ActiveRequests,
    "load-aware-scorer": LoadAware,
    "latency-scorer": Latency,
    "session-affinity-scorer": session_affinity,
    "no-hit-lru-scorer": NoHitLru,
    "context-length-aware": ContextLength,
    "zone-affinity-scorer": ZoneAffinity,
    "topology-affinity-scorer": TopologyAffinity,
    "max-score-picker": MaxScore,
    "weighted-random-picker": WeightedRandom,
    "random-picker": Random,
    "power-of-two-picker": PowerOfTwo,
    "single-profile-handler": SingleProfile,
    "header-profile-handler": HeaderProfile,
    "disagg-profile-handler": Disagg,
    "pd-profile-handler": pd_profile,
    "always-disagg-pd-decider": AlwaysDisaggregate,
    "always-disagg-multimodal-decider": Multimodal,
    "prefix-based-pd-decider": PrefixBased,
    "utilization-detector": Utilization,
    "concurrency-detector": Concurrency,
    "global-strict-fairness-policy": GlobalStrict,
    "round-robin-fairness-policy": RoundRobin,
    "weighted-tokens-fairness-policy": WeightedTokens,
    "fcfs-ordering-policy": FirstCome,
    "edf-ordering-policy": EarliestDeadline,
    "slo-deadline-ordering-policy": SloDeadline,
    "openai-parser": AlwaysOn,
    "anthropic-parser": AlwaysOn,
    "metrics-data-source": AlwaysOn,
    "core-metrics-extractor": AlwaysOn,
    "approx-prefix-cache-producer": AlwaysOn,
    "inflight-load-producer": AlwaysOn,
    "disagg-headers-handler": AlwaysOn,
    "prefill-header-handler": AlwaysOn,
}

ALIASES: Mapping[str, str] = {"by-label-selector": "label-selector-filter"}
"""Old names, which mean the same."""


def is_built_in(kind: str) -> bool:
    """Say whether a plugin of type `kind` is one of ours, and not a third party's."""
    return ALIASES.get(kind, kind) in BUILTIN


class PluginError(ValueError):
    """A plugin's type or parameters cannot be used. The message begins with where in the plugin's entry."""


def build(
    kind: str,
    parameters: Mapping[str, object],
    *,
    installed: Callable[[], Iterable[EntryPoint]] | None = None,
) -> object:
    """Make a plugin of type `kind`. Parameters are the factory's fields, in camel case as the reference spells them.

    `installed` lists the entry points of `ENTRY_POINTS`; they are looked at only for a name that is not built in, and
    loaded only when named.
    """
    factory = BUILTIN.get(ALIASES.get(kind, kind)) or _outside(kind, installed or _installed)
    try:
        _elsewhere(ALIASES.get(kind, kind), parameters)
        return factory(**_arguments(factory, parameters))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, PluginError) else PluginError(f"parameters: {error}") from error


def _installed() -> Iterable[EntryPoint]:
    return entry_points(group=ENTRY_POINTS)


def _outside(kind: str, installed: Callable[[], Iterable[EntryPoint]]) -> Callable[..., object]:
    found = [point for point in installed() if point.name == kind]
    if len(found) > 1:
        raise PluginError(f"type: {kind!r} comes from more than one installed package")
    if not found:
        raise PluginError(_unknown(kind))
    try:
        factory = found[0].load()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"type: entry point {kind!r} cannot be loaded: {error}") from error
    if not callable(factory):
        raise PluginError(f"type: entry point {kind!r} is no class or function")
    return typing.cast("Callable[..., object]", factory)


def _unknown(kind: str) -> str:
    if kind in UNSUPPORTED:
        return f"type: {kind!r} is not supported: {UNSUPPORTED[kind]}"
    near = difflib.get_close_matches(kind, BUILTIN, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"type: no plugin {kind!r}; {meant}built in are {', '.join(sorted(BUILTIN))}"


def _elsewhere(kind: str, parameters: Mapping[str, object]) -> None:
    for key, sentence in MOVED.get(kind, {}).items():
        if key in parameters:
            raise PluginError(f"parameters.{key}: {sentence}")


def _arguments(factory: Callable[..., object], parameters: Mapping[str, object]) -> dict[str, object]:
    fields = inspect.signature(factory).parameters
    names = {_camel(name): name for name in fields}
    unknown = sorted(parameters.keys() - names.keys())
    if unknown:
        raise PluginError(f"parameters.{unknown[0]}: unknown; known are {', '.join(sorted(names)) or 'none'}")
    for key, name in names.items():
        if fields[name].default is inspect.Parameter.empty and key not in parameters:
            raise PluginError(f"parameters.{key}: is needed")
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    return {names[key]: _convert(key, value, hints.get(names[key])) for key, value in parameters.items()}


def _convert(key: str, value: object, kind: object) -> object:
    try:
        return value if kind is None else msgspec.convert(value, type=kind)
    except msgspec.ValidationError as error:
        raise PluginError(f"parameters.{key}: {error}") from error


_CAPITALS = {"ttft": "TTFT", "tpot": "TPOT", "kv": "KV"}
"""Words that the reference writes in capitals inside a name."""


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(_CAPITALS.get(word) or word.capitalize() for word in rest)
