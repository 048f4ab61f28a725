"""A third party's plugin that fails costs no request; what plugins take is measured."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from importlib.metadata import EntryPoint

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.epp import plugins
from services.epp.assemble import assemble
from services.epp.config import EndpointPickerConfig
from services.epp.director import Ask
from services.epp.plugin_watch import LOG_EVERY, PluginWatch
from services.epp.scheduling.scorers.queue import Queue
from services.epp.scheduling.watched import EVERY
from services.extproc.config import parse
from services.extproc.errors import BadRequest
from services.openai.digest import Digest
from tests.epp.world import Clock, director_of, pool_of

HEAD = (
    "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\npools: [{name: llama, endpoints: ['a:1']}]\n"
)


class Fails:
    """Every kind of plugin at once, and none that works."""

    def keep(self, situation, servers):
        raise KeyError("keep")

    def score(self, situation, servers):
        raise ZeroDivisionError

    def pick(self, situation, totals, rng):
        raise RuntimeError("pick")

    def chosen(self, situation, server):
        raise OSError("chosen")

    def disaggregate(self, situation, server):
        raise TypeError("disaggregate")

    def saturation(self, now, servers, loads=()):
        raise LookupError("saturation")


class Nonsense:
    """Gives what cannot be."""

    def keep(self, situation, servers):
        return [object()]

    def score(self, situation, servers):
        return [1.0]

    def pick(self, situation, totals, rng):
        return [0, 0, 99]


class Refuses:
    def keep(self, situation, servers):
        raise BadRequest("not for you", reason="refused")


PLUGINS = {"fails": Fails, "nonsense": Nonsense, "refuses": Refuses}


@pytest.fixture(autouse=True)
def installed(monkeypatch) -> None:
    module = types.ModuleType("elsewhere")
    module.__dict__.update({plugin.__name__: plugin for plugin in PLUGINS.values()})
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    points = [
        EntryPoint(name, f"elsewhere:{kind.__name__}", plugins.ENTRY_POINTS) for name, kind in PLUGINS.items()
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)


class Rig:
    """A picker with these plugins, in front of three servers."""

    def __init__(self, *names: str) -> None:
        declared = "".join(f"- {{type: {name}}}\n" for name in names)
        self.registry = CollectorRegistry()
        clock = Clock()
        config = parse(f"{HEAD}plugins:\n{declared}", EndpointPickerConfig)
        assembly = assemble(config, watch=PluginWatch(self.registry, clock))
        self.director = director_of(
            pool_of(3, clock), clock=clock, scheduler=assembly.scheduler, detector=assembly.detector
        )

    def pick(self, times: int = 1) -> Sequence[str]:
        return [self.director.pick(Ask(Digest("m"))).addresses for _ in range(times)]

    def errors(self, point: str) -> float:
        labels = {"extension_point": point, "plugin_type": "fails", "plugin_name": "fails"}
        return self.registry.get_sample_value("epp_plugin_errors_total", labels) or 0.0


def test_a_plugin_that_always_raises_costs_no_request():
    """Its filter passes all, its scores are 0, its picker is replaced, and it learns nothing."""
    rig = Rig("fails")
    with capture_logs() as logs:
        picked = rig.pick(LOG_EVERY + 1)
    assert {len(servers.split(",")) for servers in picked} == {3}
    assert {point: rig.errors(point) for point in ("Filter", "Scorer", "Picker", "PreRequest")} == {
        "Filter": LOG_EVERY + 1,
        "Scorer": LOG_EVERY + 1,
        "Picker": LOG_EVERY + 1,
        "PreRequest": LOG_EVERY + 1,
    }
    told = [log for log in logs if log["extension_point"] == "Scorer"]
    assert [(log["plugin"], log["errors"]) for log in told] == [("fails", 1), ("fails", LOG_EVERY + 1)]
    assert isinstance(told[0]["exc_info"], ZeroDivisionError)


def test_what_other_plugins_say_still_counts():
    """The queue decides where the broken scorer says nothing."""
    rig = Rig("queue-scorer", "fails")
    for slot, load in enumerate(rig.director.pools["llama"].inflight.loads):
        load.unseen = slot
    assert rig.pick()[0].startswith("10.0.0.1:")


def test_what_cannot_be_counts_as_an_error():
    """Servers that are no candidates, too few scores, positions that do not exist."""
    rig = Rig("nonsense")
    assert {len(servers.split(",")) for servers in rig.pick(5)} == {3}
    names = ("Filter", "Scorer", "Picker")
    labels = [
        {"extension_point": name, "plugin_type": "nonsense", "plugin_name": "nonsense"} for name in names
    ]
    assert [rig.registry.get_sample_value("epp_plugin_errors_total", one) for one in labels] == [5.0] * 3


def test_a_detector_and_a_decider_are_contained_too():
    """The default detector answers in its place; no prefill server is looked for."""
    registry = CollectorRegistry()
    profiles = "\n".join(
        f"- {{name: {name}, plugins: [{{pluginRef: queue-scorer}}]}}" for name in ("decode", "prefill")
    )
    handler = "{type: disagg-profile-handler, parameters: {deciders: {prefill: fails}}}"
    text = f"plugins:\n- {{type: fails}}\n- {{type: queue-scorer}}\n- {handler}\nschedulingProfiles:\n{profiles}\nsaturationDetector: {{pluginRef: fails}}\n"
    clock = Clock()
    assembly = assemble(parse(HEAD + text, EndpointPickerConfig), watch=PluginWatch(registry, clock))
    pool = pool_of(2, clock)
    director = director_of(pool, clock=clock, scheduler=assembly.scheduler, detector=assembly.detector)
    assert director.pick(Ask(Digest("m"))).decision.prefill is None
    assert director.saturation(pool) == 0.0


def test_a_plugin_may_refuse_a_request():
    """In the service's own words for it, that is no error of the plugin."""
    rig = Rig("refuses")
    with pytest.raises(BadRequest, match="not for you"):
        rig.pick()


def test_a_built_in_plugin_that_raises_is_a_bug(monkeypatch):
    """It is not passed over: the request is answered as the fail mode says, and the stack is logged."""

    def broken(self: object, situation: object, servers: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Queue, "score", broken)
    with pytest.raises(ZeroDivisionError):
        Rig("queue-scorer").pick()


def test_every_plugin_is_timed_now_and_then():
    """One call in sixteen, under the reference's names."""
    rig = Rig("queue-scorer", "lora-capacity-filter")
    rig.pick(3 * EVERY)
    points = {"queue-scorer": "Scorer", "lora-capacity-filter": "Filter", "max-score-picker": "Picker"}
    for name, point in points.items():
        labels = {"extension_point": point, "plugin_type": name, "plugin_name": name}
        counted = rig.registry.get_sample_value("inference_extension_plugin_duration_seconds_count", labels)
        assert counted == 3.0, name
