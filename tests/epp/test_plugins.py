"""Plugins: one table, and entry points of other packages."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from services.epp.flow.policies import Fairness, Ordering
from services.epp.plugins import BUILTIN, ENTRY_POINTS, AlwaysOn, PluginError, build
from services.epp.scheduling.interfaces import Decider, Detector, Filter, Picker, ProfileHandler, Scorer
from services.epp.unsupported import PARAMETERS
from services.epp.unsupported import PLUGINS as UNSUPPORTED


@dataclass(frozen=True)
class Zone:
    """A scorer from another package."""

    home_zone: str = "a"

    def score(self, situation, servers):
        return [float(server.endpoint.labels.get("zone") == self.home_zone) for server in servers]


def outside(name: str, value: str = f"{__name__}:Zone") -> EntryPoint:
    return EntryPoint(name, value, ENTRY_POINTS)


NEEDED: dict[str, dict[str, object]] = {
    "by-label": {"label": "tier"},
    "utilization-filter": {"conditions": [{"metric": "waiting-queue", "maxValue": 5}]},
}
"""The few parameters without a default."""

ROLES = (Filter, Scorer, Picker, Detector, ProfileHandler, Decider, AlwaysOn, Fairness, Ordering)


@pytest.mark.parametrize("kind", BUILTIN)
def test_every_built_in_plugin_has_one_role(kind):
    """All but a few parameters have defaults. One plugin scores and, when told so, filters, as in the reference."""
    plugin = build(kind, NEEDED.get(kind, {}))

    roles = [role for role in ROLES if isinstance(plugin, role)]
    assert len(roles) == (2 if kind == "context-length-aware" else 1)


def test_a_parameter_without_a_default_is_asked_for():
    """With its name."""
    with pytest.raises(PluginError, match=r"^parameters\.label: is needed$"):
        build("by-label", {})


@pytest.mark.parametrize(
    ("kind", "parameter"),
    [
        ("prefix-cache-affinity-filter", "maxTTFTPenaltyMs"),
        ("prefix-cache-affinity-filter", "peakPrefillThroughput"),
        ("token-load-scorer", "queueThresholdTokens"),
        ("no-hit-lru-scorer", "lruSize"),
        ("utilization-detector", "kvCacheUtilThreshold"),
    ],
)
def test_parameters_are_spelled_as_in_the_reference(kind, parameter):
    """Abbreviations in capitals inside a name, in small letters at its beginning."""
    assert build(kind, {parameter: 1}) != build(kind, {})


def test_old_names_mean_the_same():
    """`by-label-selector` became `label-selector-filter`."""
    parameters = {"matchLabels": {"tier": "fast"}}

    assert build("by-label-selector", parameters) == build("label-selector-filter", parameters)


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_what_only_the_reference_has_is_refused_with_a_reason(kind):
    """The sentence says what to do instead."""
    assert kind not in BUILTIN
    with pytest.raises(PluginError, match=f"^type: '{kind}' is not supported: ."):
        build(kind, {})


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, keys in PARAMETERS.items() for key in keys])
def test_a_parameter_that_only_the_reference_has_is_refused_with_a_reason(kind, key):
    """By name, with what stands for it here."""
    with pytest.raises(PluginError, match=f"^parameters.{key}: (?!unknown).") as refused:
        build(kind, {key: 1})
    assert str(refused.value).endswith(PARAMETERS[kind][key])


def test_a_typing_error_gets_a_suggestion():
    """The nearest name."""
    with pytest.raises(PluginError, match="no plugin 'queue-scorrer'; did you mean 'queue-scorer'\\?"):
        build("queue-scorrer", {})


def test_a_plugin_of_another_package_is_found_by_its_entry_point(monkeypatch):
    """And gets its parameters in camel case like the others."""
    monkeypatch.setattr(EntryPoint, "load", lambda _: Zone)

    assert build("zone-scorer", {"homeZone": "b"}, installed=lambda: [outside("zone-scorer")]) == Zone("b")


def test_built_in_names_cannot_be_taken(monkeypatch):
    """An installed package does not change what a configuration means."""
    found = build("queue-scorer", {}, installed=lambda: [outside("queue-scorer")])

    assert type(found) is BUILTIN["queue-scorer"]


def test_a_name_from_two_packages_is_refused():
    """It is not clear which one is meant."""
    with pytest.raises(PluginError, match="more than one installed package"):
        build("zone-scorer", {}, installed=lambda: [outside("zone-scorer"), outside("zone-scorer")])


def test_an_entry_point_that_makes_nothing_is_refused(monkeypatch):
    """A module or a constant."""
    monkeypatch.setattr(EntryPoint, "load", lambda _: 7)
    with pytest.raises(PluginError, match="is no class or function"):
        build("zone-scorer", {}, installed=lambda: [outside("zone-scorer")])


def test_without_any_installed_package_unknown_types_are_refused():
    """The message lists what there is."""
    with pytest.raises(PluginError, match=r"no plugin 'shoe-sizer'; built in are active-request-scorer, "):
        build("shoe-sizer", {})
