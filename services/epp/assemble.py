"""From a configuration to the objects it describes. An error is a `ConfigError` that names its place in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from services.epp.config import EndpointPickerConfig, PluginRef, PluginSpec, PoolSpec, ProfileSpec, target
from services.epp.plugins import PluginError, SingleProfileHandler, build
from services.epp.pool import Pool, PoolLimits
from services.epp.scheduling.interfaces import Detector, Filter, Picker, Scorer
from services.epp.scheduling.pickers.max_score import MaxScore
from services.epp.scheduling.profile import NamedFilter, Profile, WeightedScorer
from services.extproc.config import ConfigError

DEFAULT_PROFILE = (
    ("request-load-scorer", 4.0),
    ("kv-cache-utilization-scorer", 2.0),
    ("prefix-cache-scorer", 3.0),
    ("lora-affinity-scorer", 4.0),
)
"""Weights such that a conversation stays while its server has up to about four requests more than another; that the
first requests with a shared system prompt soon make a second server hold it too, after which load alone decides; and
that a loaded adapter outweighs about one request."""

MIN_STALENESS = 2.0
"""Seconds after which metrics are old: the reference's `metrics-staleness-threshold`."""


def make_profile(config: EndpointPickerConfig) -> Profile:
    """Return the scheduling profile that the file describes, or the default one."""
    plugins = _plugins(config.plugins)
    if len(config.scheduling_profiles) > 1:
        raise ConfigError(
            "$.schedulingProfiles[1]: one profile is supported; another needs a profile handler"
        )
    if not config.scheduling_profiles:
        return _default(plugins)
    return _profile("$.schedulingProfiles[0]", config.scheduling_profiles[0], plugins)


def make_detector(config: EndpointPickerConfig) -> Detector:
    """Return the saturation detector that the file names."""
    name = config.saturation_detector.plugin_ref
    plugin = _plugins(config.plugins).get(name) or _build("$.saturationDetector.pluginRef", name)
    if not isinstance(plugin, Detector):
        raise ConfigError(f"$.saturationDetector.pluginRef: {name!r} is no saturation detector")
    return plugin


def make_pools(config: EndpointPickerConfig, clock: Callable[[], float]) -> dict[str, Pool]:
    """Return the pools by name, still without members."""
    if not config.pools:
        raise ConfigError("$.pools: at least one pool is needed")
    _unique("$.pools", [pool.name for pool in config.pools])
    return {
        spec.name: _pool(f"$.pools[{index}]", spec, config, clock) for index, spec in enumerate(config.pools)
    }


def make_objectives(config: EndpointPickerConfig) -> dict[str, int]:
    """Return priorities by objective."""
    _unique("$.objectives", [objective.name for objective in config.objectives])
    return {objective.name: objective.priority for objective in config.objectives}


def override_endpoints(config: EndpointPickerConfig, overrides: Sequence[str]) -> EndpointPickerConfig:
    """Return `config` with the endpoints of each `POOL=URL` in place of what that pool had."""
    given: dict[str, list[str]] = {}
    for override in overrides:
        pool, equals, url = override.partition("=")
        if not equals or not url:
            raise ConfigError(f"--endpoint: expected POOL=URL, got {override!r}")
        given.setdefault(pool, []).append(url)
    unknown = given.keys() - {pool.name for pool in config.pools}
    if unknown:
        raise ConfigError(f"--endpoint: no pool {min(unknown)!r} in the configuration")
    return msgspec.structs.replace(
        config, pools=[_override(pool, given.get(pool.name)) for pool in config.pools]
    )


def _override(pool: PoolSpec, endpoints: list[str] | None) -> PoolSpec:
    if endpoints is None:
        return pool
    try:
        for endpoint in endpoints:
            target(endpoint)
    except ValueError as error:
        raise ConfigError(f"--endpoint {pool.name}: {error}") from error
    return msgspec.structs.replace(pool, endpoints=endpoints, dns=[])


def _pool(path: str, spec: PoolSpec, config: EndpointPickerConfig, clock: Callable[[], float]) -> Pool:
    if not spec.targets():
        raise ConfigError(f"{path}: endpoints or dns is needed")
    limits = PoolLimits(
        misses=spec.metrics.misses,
        lease=config.in_flight.lease_seconds,
        # A few intervals at least: else servers would be stale by turns, and all go to the one just scraped.
        staleness=max(MIN_STALENESS, 4 * spec.metrics.interval_seconds),
    )
    return Pool(spec.name, clock=clock, limits=limits, scraped=spec.metrics.enabled)


def _plugins(specs: Sequence[PluginSpec]) -> dict[str, object]:
    _unique("$.plugins", [spec.name or spec.type for spec in specs])
    return {
        spec.name or spec.type: _build(f"$.plugins[{index}]", spec.type, spec.parameters)
        for index, spec in enumerate(specs)
    }


def _build(path: str, kind: str, parameters: Mapping[str, object] | None = None) -> object:
    try:
        return build(kind, parameters or {})
    except PluginError as error:
        raise ConfigError(f"{path}: {error}") from error


def _default(plugins: Mapping[str, object]) -> Profile:
    """Return the default profile; a plugin declared under a default's name keeps its parameters."""
    refs = [PluginRef(plugin_ref=name, weight=weight) for name, weight in DEFAULT_PROFILE]
    built = {name: _build("$.plugins", name) for name, _ in DEFAULT_PROFILE}
    return _profile("$.plugins", ProfileSpec(name="default", plugins=refs), built | dict(plugins))


def _profile(path: str, spec: ProfileSpec, plugins: Mapping[str, object]) -> Profile:
    filters: list[NamedFilter] = []
    scorers: list[WeightedScorer] = []
    pickers: list[Picker] = []
    for index, ref in enumerate(spec.plugins):
        where, name = f"{path}.plugins[{index}]", ref.plugin_ref
        plugin = plugins.get(name)
        if plugin is None:
            raise ConfigError(f"{where}.pluginRef: no plugin {name!r} under $.plugins")
        if ref.weight is not None and not isinstance(plugin, Scorer):
            raise ConfigError(f"{where}.weight: {name!r} is no scorer")
        if isinstance(plugin, Scorer):
            scorers.append(WeightedScorer(name, plugin, 1.0 if ref.weight is None else ref.weight))
        elif isinstance(plugin, Filter):
            filters.append(NamedFilter(name, plugin))
        elif isinstance(plugin, Picker):
            pickers.append(plugin)
        elif not isinstance(plugin, SingleProfileHandler):
            raise ConfigError(f"{where}.pluginRef: {name!r} is no filter, scorer or picker")
    if len(pickers) > 1:
        raise ConfigError(f"{path}.plugins: more than one picker")
    return Profile(spec.name, tuple(filters), tuple(scorers), pickers[0] if pickers else MaxScore())


def _unique(path: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ConfigError(f"{path}: {name!r} is named {count} times")
