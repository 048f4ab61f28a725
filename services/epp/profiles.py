"""Scheduling profiles from their configuration. An error is a `ConfigError` that names its place in the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.epp.plugins import build, is_built_in
from services.epp.reference_config import PluginRef, PluginSpec, ProfileSpec
from services.epp.scheduling.interfaces import Filter, Learner, Picker, Scorer
from services.epp.scheduling.pickers.max_score import MaxScore
from services.epp.scheduling.profile import NamedFilter, Profile, WeightedScorer
from services.epp.scheduling.watched import (
    Label,
    Point,
    Watch,
    Watched,
    WatchedFilter,
    WatchedLearner,
    WatchedPicker,
    WatchedScorer,
)
from services.extproc.config import ConfigError

Plugins = dict[str, tuple[PluginSpec, object]]
"""The declared plugins by name, with their declarations."""

SPARE = "max-score-picker"
"""The picker of a profile where none is declared."""

DEFAULT_PROFILE = (("cost-scorer", 1.0),)
"""The least time decides. Profiles of weighted scorers are a choice; `docs/scheduling.md` compares."""


def make_profiles(specs: Sequence[ProfileSpec], plugins: Plugins) -> dict[str, Profile]:
    """Return the profiles by name.

    Without any, all declared filters, scorers and pickers make one, each scorer with weight 1, as in the reference; and
    when there is none of these either, it is the default profile.
    """
    spare = next((plugin for _, plugin in plugins.values() if isinstance(plugin, Picker)), MaxScore())
    found = {
        spec.name: _profile(f"$.schedulingProfiles[{index}]", spec, plugins, spare)
        for index, spec in enumerate(specs)
    }
    if found:
        return found
    declared = [name for name, (_, plugin) in plugins.items() if isinstance(plugin, Filter | Scorer | Picker)]
    spec = ProfileSpec(name="default", plugins=[PluginRef(plugin_ref=name) for name in declared])
    return {"default": _profile("$.plugins", spec, plugins, spare) if declared else default_profile()}


def default_profile() -> Profile:
    """Return the profile of a file that says nothing of scheduling."""
    refs = [PluginRef(plugin_ref=name, weight=weight) for name, weight in DEFAULT_PROFILE]
    plugins = {name: (PluginSpec(type=name), build(name, {})) for name, _ in DEFAULT_PROFILE}
    return _profile("$", ProfileSpec(name="default", plugins=refs), plugins, MaxScore())


def _profile(path: str, spec: ProfileSpec, plugins: Plugins, spare: Picker) -> Profile:
    parts = [(ref, _part(f"{path}.plugins[{index}]", ref, plugins)) for index, ref in enumerate(spec.plugins)]
    pickers = [plugin for _, plugin in parts if isinstance(plugin, Picker)]
    if len(pickers) > 1:
        raise ConfigError(f"{path}.plugins: more than one picker")
    return Profile(
        spec.name,
        tuple(NamedFilter(ref.plugin_ref, plugin) for ref, plugin in parts if isinstance(plugin, Filter)),
        tuple(
            WeightedScorer(ref.plugin_ref, plugin, 1.0 if ref.weight is None else ref.weight)
            for ref, plugin in parts
            if isinstance(plugin, Scorer)
        ),
        pickers[0] if pickers else spare,
        tuple(plugin for _, plugin in parts if isinstance(plugin, Learner)),
    )


def watched_at(point: Point, name: str, plugins: Plugins, watch: Watch) -> Watched:
    """Return the watch over the plugin called `name` at `point`."""
    kind = plugins[name][0].type if name in plugins else name
    return Watched(Label(point, kind, name), watch, outside=not is_built_in(kind))


def watch_profile(profile: Profile, plugins: Plugins, watch: Watch) -> Profile:
    """Return `profile` with each of its plugins watched."""
    names = {id(plugin): name for name, (_, plugin) in plugins.items()}

    def at(point: Point, plugin: object, otherwise: str = SPARE) -> Watched:
        return watched_at(point, names.get(id(plugin), otherwise), plugins, watch)

    filters = [
        replace(one, plugin=WatchedFilter(one.plugin, at(Point.FILTER, one.plugin)))
        for one in profile.filters
    ]
    scorers = [
        replace(one, plugin=WatchedScorer(one.plugin, at(Point.SCORER, one.plugin, one.name)))
        for one in profile.scorers
    ]
    learners = [WatchedLearner(one, at(Point.CHOSEN, one)) for one in profile.learners]
    picker = WatchedPicker(profile.picker, at(Point.PICKER, profile.picker))
    return replace(
        profile, filters=tuple(filters), scorers=tuple(scorers), picker=picker, learners=tuple(learners)
    )


def _part(path: str, ref: PluginRef, plugins: Mapping[str, tuple[PluginSpec, object]]) -> object:
    """Return the plugin that `ref` names, which must be fit for a profile."""
    name = ref.plugin_ref
    if name not in plugins:
        raise ConfigError(f"{path}.pluginRef: no plugin {name!r} under $.plugins")
    spec, plugin = plugins[name]
    if ref.weight is not None and not isinstance(plugin, Scorer):
        raise ConfigError(f"{path}.weight: {name!r} is no scorer")
    if not isinstance(plugin, Filter | Scorer | Picker):
        raise ConfigError(f"{path}.pluginRef: {name!r} ({spec.type}) is no filter, scorer or picker")
    return plugin
