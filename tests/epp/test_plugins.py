"""Plugins: one table, and entry points of other packages."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from services.epp.plugins import BUILTIN, ENTRY_POINTS, PluginError, SingleProfileHandler, build
from services.epp.scheduling.interfaces import Detector, Filter, Picker, Scorer


@dataclass(frozen=True)
class Zone:
    """A scorer from another package."""

    home_zone: str = "a"

    def score(self, situation, servers):
        return [float(server.endpoint.labels.get("zone") == self.home_zone) for server in servers]


def outside(name: str, value: str = f"{__name__}:Zone") -> EntryPoint:
    return EntryPoint(name, value, ENTRY_POINTS)


@pytest.mark.parametrize("kind", BUILTIN)
def test_every_built_in_plugin_can_be_made_without_parameters_and_has_one_role(kind):
    """All parameters have defaults."""
    plugin = build(kind, {})

    roles = [
        role for role in (Filter, Scorer, Picker, Detector, SingleProfileHandler) if isinstance(plugin, role)
    ]
    assert len(roles) == 1


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
    with pytest.raises(
        PluginError, match="no plugin 'zone-scorer'; built in are kv-cache-utilization-scorer"
    ):
        build("zone-scorer", {})
