"""From a configuration to the objects it describes. An error is a `ConfigError` that names its place in the file."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from services.epp.config import EVENTS_PORT, REPLAY_PORT, EndpointPickerConfig, PoolSpec, target
from services.epp.flow.config import BandTemplate, number, seconds
from services.epp.flow.policies import Fairness, Ordering
from services.epp.flow.queues import Band, Limits
from services.epp.flow.settings import Settings
from services.epp.plugins import PluginError, build
from services.epp.pool import Pool, PoolLimits
from services.epp.profiles import Plugins, make_profiles, watch_profile, watched_at
from services.epp.rewrite_config import tables
from services.epp.scheduling.handlers.by_pool import ByPool
from services.epp.scheduling.handlers.single import SingleProfile
from services.epp.scheduling.interfaces import Decider, Detector, ProfileHandler, Scheduler
from services.epp.scheduling.watched import Point, Watch, WatchedDecider, WatchedDetector
from services.extproc.config import ConfigError
from services.openai.rewrites import Table

MIN_STALENESS = 2.0
"""Seconds after which metrics are old: the reference's `metrics-staleness-threshold`."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """Everything that decides and is not a pool's state. A reload replaces it as a whole."""

    config: EndpointPickerConfig
    plugins: Plugins
    scheduler: Scheduler
    detector: Detector
    objectives: Mapping[str, int]
    rewrites: Mapping[str, Table] = field(default_factory=dict)
    """By pool."""
    flow: Settings | None = None
    """None leaves the feature gate `flowControl` off: nobody waits, and sheddable requests are shed."""
    watch: Watch | None = None
    """Who is told how the plugins do; None lets a third party's errors pass."""


def assemble(
    config: EndpointPickerConfig, before: Assembly | None = None, *, watch: Watch | None = None
) -> Assembly:
    """Make what `config` describes; a plugin that is declared just as in `before` keeps what it remembers.

    Raises `ConfigError`, also for pools that cannot be made.
    """
    plugins = make_plugins(config, before.plugins if before else {})
    _check_pools(config)
    _check_events(config)
    _check_always_on(config, plugins)
    watch = before.watch if before else watch
    scheduler = _scheduler(config, plugins, watch)
    detector, flow = _detector(config, plugins, watch), make_flow(config, plugins)
    rewrites = tables(config.rewrites, [pool.name for pool in config.pools])
    return Assembly(config, plugins, scheduler, detector, make_objectives(config), rewrites, flow, watch)


def make_plugins(config: EndpointPickerConfig, before: Plugins | None = None) -> Plugins:
    """Return the declared plugins by name, those of `before` where the declaration is the same."""
    _unique("$.plugins", [spec.label for spec in config.plugins])
    made: Plugins = {}
    for index, spec in enumerate(config.plugins):
        old = (before or {}).get(spec.label)
        kept = old is not None and old[0] == spec
        plugin = old[1] if old and kept else _build(f"$.plugins[{index}]", spec.type, spec.parameters)
        made[spec.label] = (spec, plugin)
    return made


def make_scheduler(config: EndpointPickerConfig) -> Scheduler:
    """Return what decides by the file: its profiles and their handler, or the default profile."""
    return _scheduler(config, make_plugins(config))


def make_detector(config: EndpointPickerConfig) -> Detector:
    """Return the saturation detector that the file names."""
    return _detector(config, make_plugins(config))


def make_pools(config: EndpointPickerConfig, clock: Callable[[], float]) -> dict[str, Pool]:
    """Return the pools by name, still without members."""
    _check_pools(config)
    return {spec.name: make_pool(spec, config, clock) for spec in config.pools}


def make_pool(spec: PoolSpec, config: EndpointPickerConfig, clock: Callable[[], float]) -> Pool:
    """Return one pool, still without members."""
    return Pool(spec.name, clock=clock, limits=pool_limits(spec, config), scraped=spec.metrics.enabled)


def make_objectives(config: EndpointPickerConfig) -> dict[str, int]:
    """Return priorities by objective."""
    _unique("$.objectives", [objective.name for objective in config.objectives])
    return {objective.name: objective.priority for objective in config.objectives}


def make_flow(config: EndpointPickerConfig, plugins: Plugins) -> Settings | None:
    """Return what flow control goes by; None with its gate off. What it names is checked all the same."""
    spec = config.flow_control
    default = _band("$.flowControl.defaultPriorityBand", spec.default_priority_band, plugins)
    negative = spec.default_negative_priority_band
    bands = {
        band.priority: _band(f"$.flowControl.priorityBands[{index}]", band, plugins)
        for index, band in enumerate(spec.priority_bands)
    }
    limits = Limits(
        default=default,
        negative=_band("$.flowControl.defaultNegativePriorityBand", negative, plugins) if negative else None,
        bands=bands,
        oldest_every=spec.oldest_every,
    )
    if spec.max_requests is not None:
        limits = replace(limits, max_requests=number(spec.max_requests))
    if spec.max_bytes is not None:
        limits = replace(limits, max_bytes=number(spec.max_bytes))
    ttl = seconds(spec.default_request_ttl)
    no_endpoint = seconds(spec.no_endpoint_request_ttl) if spec.no_endpoint_request_ttl else ttl
    settings = Settings(
        limits,
        ttl=ttl,
        no_endpoint_ttl=no_endpoint,
        max_wait=spec.max_wait_seconds,
        evicts=spec.enable_eviction,
    )
    return settings if "flowControl" in config.feature_gates else None


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


def pool_limits(spec: PoolSpec, config: EndpointPickerConfig) -> PoolLimits:
    """Return when a pool's news are old."""
    return PoolLimits(
        misses=spec.metrics.misses,
        lease=config.in_flight.lease_seconds,
        # A few intervals at least: else servers would be stale by turns, and all go to the one just scraped.
        staleness=max(MIN_STALENESS, 4 * spec.metrics.interval_seconds),
    )


def _check_pools(config: EndpointPickerConfig) -> None:
    if not config.pools:
        raise ConfigError("$.pools: at least one pool is needed")
    names = [pool.name for pool in config.pools]
    _unique("$.pools", names)
    for index, pool in enumerate(config.pools):
        if not pool.targets():
            raise ConfigError(f"$.pools[{index}]: endpoints or dns is needed")
    if config.default_pool and config.default_pool not in names:
        raise ConfigError(f"$.default_pool: no pool {config.default_pool!r}, only {', '.join(names)}")


def _check_events(config: EndpointPickerConfig) -> None:
    told = [f"$.pools[{index}].kv_events" for index, pool in enumerate(config.pools) if pool.kv_events]
    if told and importlib.util.find_spec("zmq") is None:
        raise ConfigError(f"{told[0]}: needs pyzmq: pip install 'inference-gateway[kv-events]'")
    for member in (one for pool in config.pools if pool.kv_events for one in pool.targets()):
        for label in (EVENTS_PORT, REPLAY_PORT):
            if not member.labels.get(label, "1").isdecimal():
                raise ConfigError(f"$.pools: {member.host}:{member.port}: label {label!r} must be a port")
    for index, spec in enumerate(config.plugins):
        if spec.type == "precise-prefix-cache-scorer" and not told:
            raise ConfigError(
                f"$.plugins[{index}]: {spec.type!r} needs a pool with events: $.pools[].kv_events"
            )


def _build(path: str, kind: str, parameters: Mapping[str, object] | None = None) -> object:
    try:
        return build(kind, parameters or {})
    except PluginError as error:
        raise ConfigError(f"{path}: {error}") from error


def _detector(config: EndpointPickerConfig, plugins: Plugins, watch: Watch | None = None) -> Detector:
    path, name = config.detector
    plugin = plugins[name][1] if name in plugins else _build(f"{path}.pluginRef", name)
    if not isinstance(plugin, Detector):
        raise ConfigError(f"{path}.pluginRef: {name!r} is no saturation detector")
    if watch is None:
        return plugin
    return WatchedDetector(plugin, watched_at(Point.DETECTOR, name, plugins, watch))


def _band(path: str, spec: BandTemplate, plugins: Plugins) -> Band:
    fairness = _policy(f"{path}.fairnessPolicyRef", spec.fairness_policy_ref, plugins)
    ordering = _policy(f"{path}.orderingPolicyRef", spec.ordering_policy_ref, plugins)
    if not isinstance(fairness, Fairness):
        raise ConfigError(f"{path}.fairnessPolicyRef: {spec.fairness_policy_ref!r} is no fairness policy")
    if not isinstance(ordering, Ordering):
        raise ConfigError(f"{path}.orderingPolicyRef: {spec.ordering_policy_ref!r} is no ordering policy")
    band = Band(fairness=fairness, ordering=ordering)
    if spec.max_requests is not None:
        band = replace(band, max_requests=number(spec.max_requests))
    if spec.max_bytes is not None:
        band = replace(band, max_bytes=number(spec.max_bytes))
    return replace(band, ttl=seconds(spec.default_request_ttl) if spec.default_request_ttl else None)


def _policy(path: str, name: str, plugins: Plugins) -> object:
    return plugins[name][1] if name in plugins else _build(path, name)


def _scheduler(config: EndpointPickerConfig, plugins: Plugins, watch: Watch | None = None) -> Scheduler:
    _unique("$.schedulingProfiles", [spec.name for spec in config.scheduling_profiles])
    profiles = make_profiles(config.scheduling_profiles, plugins)
    if watch is not None:
        profiles = {name: watch_profile(one, plugins, watch) for name, one in profiles.items()}
    handlers = {name: plugin for name, (_, plugin) in plugins.items() if isinstance(plugin, ProfileHandler)}
    if len(handlers) > 1:
        raise ConfigError(f"$.plugins: more than one profile handler: {', '.join(handlers)}")
    objects = {name: _decider(name, plugin, plugins, watch) for name, (_, plugin) in plugins.items()}
    own = _profiles_of_pools(config, profiles)
    if own and len(own) == len(config.pools) and not handlers:
        return ByPool(next(iter(own.values())), own)
    name, handler = next(iter(handlers.items()), ("single-profile-handler", SingleProfile()))
    try:
        default = handler.bind(profiles, objects)
    except ValueError as error:
        raise ConfigError(f"$.schedulingProfiles: {name}: {error}") from error
    return ByPool(default, own) if own else default


def _decider(name: str, plugin: object, plugins: Plugins, watch: Watch | None) -> object:
    if watch is None or not isinstance(plugin, Decider):
        return plugin
    return WatchedDecider(plugin, watched_at(Point.DECIDER, name, plugins, watch))


def _profiles_of_pools(
    config: EndpointPickerConfig, profiles: Mapping[str, Scheduler]
) -> dict[str, Scheduler]:
    for index, pool in enumerate(config.pools):
        if pool.profile and pool.profile not in profiles:
            raise ConfigError(
                f"$.pools[{index}].profile: no profile {pool.profile!r}, only {', '.join(profiles)}"
            )
    return {pool.name: profiles[pool.profile] for pool in config.pools if pool.profile}


def _check_always_on(config: EndpointPickerConfig, plugins: Plugins) -> None:
    """Refuse a data layer or a parser that is not the one that is always there."""
    parsers = {"$.parser": config.parser} if config.parser else {}
    parsers |= {f"$.requestHandler.parsers[{i}]": ref for i, ref in enumerate(config.request_handler.parsers)}
    for path, ref in parsers.items():
        _is_type(f"{path}.pluginRef", ref.plugin_ref, plugins, ("openai-parser", "anthropic-parser"))
    for i, source in enumerate(config.data_layer.sources):
        path = f"$.dataLayer.sources[{i}]"
        _is_type(f"{path}.pluginRef", source.plugin_ref, plugins, ("metrics-data-source",))
        for j, extractor in enumerate(source.extractors):
            where = f"{path}.extractors[{j}].pluginRef"
            _is_type(where, extractor.plugin_ref, plugins, ("core-metrics-extractor",))


def _is_type(path: str, name: str, plugins: Plugins, kinds: Sequence[str]) -> None:
    kind = plugins[name][0].type if name in plugins else name
    if kind not in kinds:
        raise ConfigError(f"{path}: {name!r} is not supported here; supported is {' and '.join(kinds)}")


def _unique(path: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ConfigError(f"{path}: {name!r} is named {count} times")
