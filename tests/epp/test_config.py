"""The file is read strictly: the reference's form, and every mistake named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.epp.app import override
from services.epp.assemble import (
    make_detector,
    make_objectives,
    make_pools,
    make_scheduler,
    override_endpoints,
)
from services.epp.config import EndpointPickerConfig, PoolSpec, target
from services.epp.profiles import default_profile
from services.epp.scheduling.filters.role import DecodeRole
from services.epp.scheduling.pickers.max_score import MaxScore
from services.epp.scheduling.pickers.random_order import Random
from services.epp.scheduling.profile import Profile
from services.epp.scheduling.scorers.queue import Queue
from services.epp.scheduling.scorers.request_load import RequestLoad
from services.extproc.config import ConfigError, load, parse

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
DEMO = Path(__file__).parents[2] / "config" / "epp.yaml"


def read(text: str) -> EndpointPickerConfig:
    return parse(HEAD + text, EndpointPickerConfig)


def profile(config: EndpointPickerConfig) -> Profile:
    """Make the only profile there is."""
    scheduler = make_scheduler(config)
    assert isinstance(scheduler, Profile)
    return scheduler


def names(config: EndpointPickerConfig) -> list[tuple[str, float]]:
    return [(scorer.name, scorer.weight) for scorer in profile(config).scorers]


def test_the_demo_file_says_what_is_the_default_anyway():
    """So that reading it teaches the truth."""
    config = load(DEMO, EndpointPickerConfig)

    assert profile(config) == profile(read(""))
    assert make_detector(config) == make_detector(read(""))
    assert list(make_pools(config, lambda: 0.0)) == ["llama", "gemma", "gemma-new", "deepseek"]
    assert make_objectives(config)["batch"] == -1
    assert (config.listen.port, config.listen.health_port, config.listen.metrics_port) == (9002, 9003, 9092)


@pytest.mark.parametrize("version", ["llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"])
def test_a_file_of_the_reference_is_understood(version):
    """Its names, defaults and weights, under both API versions."""
    text = f"""
apiVersion: {version}
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- {{type: prefix-cache-scorer, name: prefix}}
- type: kv-cache-utilization-scorer
- {{type: max-score-picker, parameters: {{maxNumOfEndpoints: 1}}}}
- type: single-profile-handler
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
  - {{pluginRef: prefix, weight: 3}}
  - pluginRef: max-score-picker
"""
    config = parse(text, EndpointPickerConfig)

    assert names(config) == [("queue-scorer", 1.0), ("prefix", 3.0)]
    assert profile(config).picker == MaxScore(1)


def test_plugins_without_a_profile_make_one():
    """As in the reference: all of them, in the order of the file, scorers with weight 1."""
    text = """
plugins:
- {type: request-load-scorer, parameters: {slack: 7}}
- type: queue-scorer
- type: decode-filter
- type: random-picker
- type: utilization-detector
"""
    made = profile(read(text))

    assert [(s.plugin, s.weight) for s in made.scorers] == [(RequestLoad(7), 1.0), (Queue(), 1.0)]
    assert [step.plugin for step in made.filters] == [DecodeRole()]
    assert made.picker == Random()


def test_a_file_that_declares_no_scheduling_has_the_default_profile():
    """A detector is none."""
    assert profile(read("plugins: [{type: utilization-detector}]")) == default_profile()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("flowcontrol: {}", "unknown field `flowcontrol`"),
        (
            "plugins: [{type: queue-scorer, parameter: {}}]",
            r"unknown field `parameter` - at `\$.plugins\[0\]`",
        ),
        ("plugins: [{name: x}]", r"`type` - at `\$.plugins\[0\]`"),
        ("pools: [{name: a, endpoints: ['10.0.0.1']}]", r"expected host:port.*\$.pools\[0\]"),
        ("pools: [{name: a, endpoints: ['https://a:1']}]", r"metrics.scheme: https.*\$.pools\[0\]"),
        ("pools: [{name: a, metrics: {interval_seconds: 0}}]", r"\$.pools\[0\].metrics.interval_seconds"),
        ("pools: [{name: a, dns: [{host: b, port: 0}]}]", r"\$.pools\[0\].dns\[0\].port"),
        ("objectives: [{name: a, priority: high}]", r"\$.objectives\[0\].priority"),
        ("schedulingProfiles: [{name: a, plugins: [{pluginRef: b, weight: -1}]}]", r"plugins\[0\].weight"),
        ("apiVersion: v1", "stands twice"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(text, place):
    """Unknown keys, wrong types, values out of range."""
    with pytest.raises(ConfigError, match=place):
        read(text)


@pytest.mark.parametrize(
    "head", ["apiVersion: v2\nkind: EndpointPickerConfig", "apiVersion: llm-d.ai/v1alpha1\nkind: Pod"]
)
def test_another_version_or_kind_is_refused(head):
    """Nothing is guessed."""
    with pytest.raises(ConfigError, match=r"\$\.(apiVersion|kind)"):
        parse(head, EndpointPickerConfig)


PROFILE = "schedulingProfiles: [{name: a, plugins: [%s]}]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plugins: [{type: nope}]", r"\$.plugins\[0\]: type: no plugin 'nope'; built in are"),
        (
            "plugins: [{type: queue-scorer}, {type: queue-scorer}]",
            r"\$.plugins: 'queue-scorer' is named 2 times",
        ),
        (
            "plugins: [{type: max-score-picker, parameters: {max: 1}}]",
            r"\$.plugins\[0\]: parameters.max: unknown; known are maxNumOfEndpoints",
        ),
        (
            "plugins: [{type: max-score-picker, parameters: {maxNumOfEndpoints: two}}]",
            r"\$.plugins\[0\]: parameters.maxNumOfEndpoints: Expected `int`",
        ),
        (
            "plugins: [{type: max-score-picker, parameters: {maxNumOfEndpoints: 0}}]",
            r"\$.plugins\[0\]: parameters: maxNumOfEndpoints must be at least 1, got 0",
        ),
        (PROFILE % "{pluginRef: x}", r"\$.schedulingProfiles\[0\].plugins\[0\].pluginRef: no plugin 'x'"),
        (
            "plugins: [{type: max-score-picker}]\n" + PROFILE % "{pluginRef: max-score-picker, weight: 1}",
            r"plugins\[0\].weight: 'max-score-picker' is no scorer",
        ),
        (
            "plugins: [{type: utilization-detector}]\n" + PROFILE % "{pluginRef: utilization-detector}",
            r"'utilization-detector' \(utilization-detector\) is no filter, scorer or picker",
        ),
        (
            "plugins: [{type: max-score-picker}, {type: max-score-picker, name: b}]\n"
            + PROFILE % "{pluginRef: max-score-picker}, {pluginRef: b}",
            "more than one picker",
        ),
    ],
)
def test_a_profile_that_cannot_be_built_is_refused_with_the_place(text, message):
    """Well-formed, but what it asks for cannot be had."""
    with pytest.raises(ConfigError, match=message):
        make_scheduler(read(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"\$.pools: at least one pool"),
        ("pools: [{name: a}]", r"\$.pools\[0\]: endpoints or dns"),
        ("pools: [{name: a, endpoints: ['a:1']}, {name: a, endpoints: ['a:1']}]", "'a' is named 2 times"),
    ],
)
def test_pools_without_servers_or_with_one_name_are_refused(text, message):
    """Each pool is one cluster of the proxy."""
    with pytest.raises(ConfigError, match=message):
        make_pools(read(text), lambda: 0.0)


@pytest.mark.parametrize(("interval", "staleness"), [(0.2, 2.0), (5, 20.0)])
def test_metrics_grow_old_after_several_scrapes(interval, staleness):
    """A slow scrape does not make servers stale by turns."""
    text = f"pools: [{{name: a, endpoints: ['a:1'], metrics: {{interval_seconds: {interval}, misses: 7}}}}]"
    limits = make_pools(read(text), lambda: 0.0)["a"].limits

    assert (limits.staleness, limits.misses, limits.lease) == (staleness, 7, 600.0)


def test_a_detector_must_be_one():
    """A scorer says nothing of saturation."""
    with pytest.raises(
        ConfigError, match=r"\$.saturationDetector.pluginRef: 'queue-scorer' is no saturation"
    ):
        make_detector(read("saturationDetector: {pluginRef: queue-scorer}"))


def test_two_objectives_of_one_name_are_refused():
    """It is not clear which one would count."""
    with pytest.raises(ConfigError, match=r"\$.objectives: 'a' is named 2 times"):
        make_objectives(read("objectives: [{name: a, priority: 1}, {name: a, priority: 2}]"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:1", ("a", 1)),
        ("http://a:1", ("a", 1)),
        ("http://[::1]:8000/", ("::1", 8000)),
        ("10.0.0.1:80", ("10.0.0.1", 80)),
    ],
)
def test_endpoints_may_be_spelled_as_urls(text, expected):
    """Host and port are what counts."""
    assert target(text) == expected


@pytest.mark.parametrize("text", ["http://a", "a:1/v1", "ftp://a:1", "", "http://a:1/v1"])
def test_endpoints_with_more_or_less_are_refused(text):
    """A path would be ignored silently."""
    with pytest.raises(ValueError, match="expected"):
        target(text)


POOLS = "pools: [{name: a, endpoints: ['x:1', 'y:1'], resolve_interval_seconds: 9}, {name: b, endpoints: ['z:1']}]"


def test_endpoints_of_the_command_line_replace_those_of_their_pool():
    """The other settings of the pool, and other pools, stay."""
    pools = override_endpoints(read(POOLS), ["a=http://127.0.0.1:1", "a=127.0.0.1:2"]).pools

    assert pools[0] == PoolSpec(
        name="a", endpoints=["http://127.0.0.1:1", "127.0.0.1:2"], resolve_interval_seconds=9
    )
    assert pools[1].endpoints == ["z:1"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("a", "expected POOL=URL"),
        ("a=", "expected POOL=URL"),
        ("c=x:1", "no pool 'c'"),
        ("a=x", "expected host:port"),
    ],
)
def test_a_wrong_endpoint_flag_is_one_sentence(flag, message):
    """Said at the start."""
    with pytest.raises(ConfigError, match=f"^--endpoint.*{message}"):
        override_endpoints(read(POOLS), [flag])


def test_flags_override_the_file_only_when_they_are_given():
    """Absent flags are None or empty."""
    config = read(POOLS + "\nredis: {url: 'redis://file'}")

    assert override(config, {"endpoint": (), "redis": None}) == config
    changed = override(config, {"endpoint": ("b=q:1",), "redis": "redis://flag"})
    assert changed.redis.url == "redis://flag"
    assert changed.pools[1].endpoints == ["q:1"]
