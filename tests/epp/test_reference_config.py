"""The reference's files: what is understood, and what is refused by name instead of being ignored."""

from __future__ import annotations

import pytest

from services.epp.assemble import Assembly, assemble
from services.epp.config import EndpointPickerConfig
from services.epp.scheduling.handlers.by_header import ByHeader
from services.epp.scheduling.handlers.by_pool import ByPool
from services.epp.scheduling.handlers.deciders import PrefixBased
from services.epp.scheduling.handlers.disagg import Stages
from services.epp.scheduling.profile import Profile
from services.epp.scheduling.saturation import Utilization
from services.extproc.config import ConfigError, parse

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
POOL = "pools: [{name: a, endpoints: ['10.0.0.1:1']}]\n"


def made(text: str, pools: str = POOL) -> Assembly:
    return assemble(parse(HEAD + pools + text, EndpointPickerConfig))


DISAGGREGATED = """
featureGates: [flowControl]
plugins:
- {type: prefix-based-pd-decider, parameters: {nonCachedTokens: 512}}
- type: disagg-profile-handler
  parameters:
    profiles: {prefill: first}
    deciders: {prefill: prefix-based-pd-decider}
- type: approx-prefix-cache-producer
- {type: prefill-filter, name: p}
- type: decode-filter
- type: metrics-data-source
- {type: core-metrics-extractor, name: extractor}
- type: prefix-cache-scorer
- {type: utilization-detector, name: full, parameters: {queueDepthThreshold: 9}}
- type: openai-parser
schedulingProfiles:
- name: first
  plugins: [{pluginRef: p}, {pluginRef: prefix-cache-scorer, weight: 2}]
- name: decode
  plugins: [{pluginRef: decode-filter}, {pluginRef: prefix-cache-scorer}]
saturationDetector: {pluginRef: full}
parser: {pluginRef: openai-parser}
dataLayer:
  sources: [{pluginRef: metrics-data-source, extractors: [{pluginRef: extractor}]}]
"""


def test_a_file_for_disaggregated_serving_is_understood():
    """Two profiles, their handler and decider, a detector; what is always on may be declared."""
    assembly = made(DISAGGREGATED)
    scheduler = assembly.scheduler

    assert isinstance(scheduler, Stages)
    assert scheduler.encode is None
    assert scheduler.prefill is not None
    assert scheduler.prefill.decider == PrefixBased(512)
    assert isinstance(scheduler.prefill.profile, Profile)
    assert [step.name for step in scheduler.prefill.profile.filters] == ["p"]
    assert assembly.detector == Utilization(9)


def test_the_detector_may_stand_under_flow_control():
    """Its newer place; in both it would be unclear which one counts."""
    declared = "plugins: [{type: utilization-detector, name: d, parameters: {queueDepthThreshold: 2}}]\n"
    newer = "flowControl: {saturationDetector: {pluginRef: d}}\n"

    assert made(declared + newer).detector == Utilization(2)
    with pytest.raises(ConfigError, match="saturationDetector and flowControl"):
        made(declared + newer + "saturationDetector: {pluginRef: d}")
    with pytest.raises(ConfigError, match=r"\$.flowControl.saturationDetector.pluginRef: 'x'|no plugin 'x'"):
        made("flowControl: {saturationDetector: {pluginRef: x}}")


def test_a_header_may_choose_between_profiles():
    """All profiles are known to it."""
    text = """
plugins: [{type: header-profile-handler, parameters: {defaultProfile: b}}, {type: queue-scorer}]
schedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer}]}, {name: b, plugins: []}]
"""
    scheduler = made(text).scheduler

    assert isinstance(scheduler, ByHeader)
    assert list(scheduler.profiles) == ["a", "b"]


TWO_POOLS = "pools: [{name: a, endpoints: ['h:1'], profile: x}, {name: b, endpoints: ['h:2']%s}]\n"
TWO_PROFILES = """
plugins: [{type: queue-scorer}%s]
schedulingProfiles: [{name: x, plugins: [{pluginRef: queue-scorer}]}, {name: y, plugins: []}]
"""


def test_a_pool_may_have_a_profile_of_its_own():
    """The handler decides for the others; when all have one, none is needed."""
    handled = made(
        TWO_PROFILES % ", {type: header-profile-handler, parameters: {defaultProfile: y}}", TWO_POOLS % ""
    )
    every = made(TWO_PROFILES % "", TWO_POOLS % ", profile: y")

    assert isinstance(handled.scheduler, ByPool)
    assert isinstance(handled.scheduler.default, ByHeader)
    assert isinstance(every.scheduler, ByPool)
    assert list(every.scheduler.pools) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("featureGates: [dataLayer]", r"featureGates\[0\]: 'dataLayer' is not supported: it is gone"),
        (
            "featureGates: [flowControl, magic]",
            r"featureGates\[1\]: 'magic' is not supported: supported are flowControl",
        ),
        (
            "dataLayer: {injectDefaults: false}",
            r"injectDefaults: false .*metrics.enabled: false - at `\$.dataLayer`",
        ),
        (
            "dataLayer: {discovery: {pluginRef: x}}",
            r"discovery: is not supported; .*pools.* - at `\$.dataLayer`",
        ),
        ("dataLayer: {peerDiscovery: {pluginRef: x}}", r"peerDiscovery: is not supported; .*Redis"),
        ("dataLayer: {crossReplicaSyncInterval: 1s}", r"crossReplicaSyncer…: is not supported; .*Redis"),
        (
            "dataLayer: {sources: [{pluginRef: queue-scorer}]}",
            r"\$.dataLayer.sources\[0\].pluginRef: 'queue-scorer' is not supported here; supported is metrics-data-source",
        ),
        (
            "dataLayer: {sources: [{pluginRef: metrics-data-source, extractors: [{pluginRef: e}]}]}",
            r"sources\[0\].extractors\[0\].pluginRef: 'e' is not supported here; supported is core-metrics-extractor",
        ),
        (
            "parser: {pluginRef: vllmgrpc-parser}",
            r"\$.parser.pluginRef: 'vllmgrpc-parser' is not supported here",
        ),
        (
            "requestHandler: {parsers: [{pluginRef: openai-parser}, {pluginRef: x}]}",
            r"\$.requestHandler.parsers\[1\].pluginRef: 'x' is not supported here; supported is openai-parser and",
        ),
        (
            "plugins: [{type: file-discovery}]",
            r"\$.plugins\[0\]: type: 'file-discovery' is not supported: members are told under \$.pools",
        ),
        (
            "plugins: [{type: metrics-data-source, parameters: {scheme: https}}]",
            r"\$.plugins\[0\]: parameters.scheme: unknown; known are none",
        ),
        (
            TWO_PROFILES % "",
            r"\$.schedulingProfiles: single-profile-handler: 2 profiles, and no handler to choose",
        ),
        (
            "plugins: [{type: header-profile-handler}, {type: single-profile-handler}]",
            "more than one profile handler: header-profile-handler, single-profile-handler",
        ),
        (
            "plugins: [{type: disagg-profile-handler}]",
            r"disagg-profile-handler: profiles.decode: no profile 'decode' under \$.schedulingProfiles",
        ),
        (
            "plugins: [{type: disagg-profile-handler, parameters: {deciders: {transcode: x}}}]",
            r"\$.plugins\[0\]: parameters.deciders: .*unknown field `transcode`",
        ),
        (
            "schedulingProfiles: [{name: a, plugins: []}, {name: a, plugins: []}]",
            r"\$.schedulingProfiles: 'a' is named 2 times",
        ),
        ("default_pool: z", r"\$.default_pool: no pool 'z', only a"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(text, message):
    """With its place, what was found, and what to do."""
    with pytest.raises(ConfigError, match=message):
        made(text)


def test_a_pool_with_a_profile_that_does_not_exist_is_refused():
    """With the names of those that do."""
    with pytest.raises(ConfigError, match=r"\$.pools\[0\].profile: no profile 'x', only default"):
        made("", TWO_POOLS % "")


def test_endpoints_may_carry_labels():
    """Next to plain ones."""
    text = "pools: [{name: a, endpoints: ['h:1', {url: 'http://h:2', labels: {tier: fast}}]}]\n"
    (pool,) = made("", text).config.pools

    assert [(one.host, one.port, dict(one.labels)) for one in pool.targets()] == [
        ("h", 1, {}),
        ("h", 2, {"tier": "fast"}),
    ]


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("{url: h}", "expected host:port"),
        ("{labels: {}}", "missing required field `url`"),
        ("{url: 'h:1', zone: a}", "unknown field `zone`"),
    ],
)
def test_a_wrong_endpoint_is_refused_with_its_place(endpoint, message):
    """In either form."""
    with pytest.raises(ConfigError, match=rf"{message}.*\$.pools\[0\]"):
        made("", f"pools: [{{name: a, endpoints: [{endpoint}]}}]\n")


def test_a_plugin_keeps_what_it_remembers_while_its_declaration_stays():
    """Over a reload; changed parameters make a new one."""
    text = "plugins: [{type: no-hit-lru-scorer}, {type: session-affinity-scorer}]"
    before = made(text)
    same = assemble(before.config, before)
    other = assemble(
        made(text.replace("{type: no-hit", "{parameters: {lruSize: 2}, type: no-hit")).config, before
    )

    assert same.plugins["no-hit-lru-scorer"][1] is before.plugins["no-hit-lru-scorer"][1]
    assert other.plugins["no-hit-lru-scorer"][1] is not before.plugins["no-hit-lru-scorer"][1]
    assert other.plugins["session-affinity-scorer"][1] is before.plugins["session-affinity-scorer"][1]
