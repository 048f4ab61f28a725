"""The reference's `flowControl`: its quantities and times, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.epp.assemble import assemble
from services.epp.config import EndpointPickerConfig
from services.epp.flow.config import number, seconds
from services.epp.flow.policies import EarliestDeadline, RoundRobin, WeightedTokens
from services.extproc.config import ConfigError, parse

HEAD = (
    "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\npools: [{name: llama, endpoints: ['a:1']}]\n"
)


def config(flow: str, more: str = "featureGates: [flowControl]\n") -> EndpointPickerConfig:
    return parse(f"{HEAD}{more}flowControl: {{{flow}}}\n", EndpointPickerConfig)


@pytest.mark.parametrize(
    ("text", "value"), [(5, 5), ("5000", 5000), ("1Gi", 2**30), ("3k", 3000), ("2M", 2 * 10**6)]
)
def test_quantities(text, value):
    """As Kubernetes writes them."""
    assert number(text) == value


@pytest.mark.parametrize(("text", "value"), [("60s", 60), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400)])
def test_times(text, value):
    """As Go writes them."""
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "0s", "5", "s", "1x", "-1s", "1s ", "1e3s"])
def test_a_time_that_is_none_is_refused(text):
    """0 too: nothing waits without a bound."""
    with pytest.raises(ValueError, match="expected a time above 0"):
        seconds(text)


@pytest.mark.parametrize("text", [0, "0", "", "1.5", "-1", "1Xi"])
def test_a_quantity_that_is_none_is_refused(text):
    """So is 0, which would let nobody wait."""
    with pytest.raises(ValueError, match="expected a number above 0"):
        number(text)


def test_without_the_gate_nobody_waits():
    """The section alone is checked and not in force."""
    assert assemble(config("maxRequests: 5", more="")).flow is None


def test_everything_that_can_be_said():
    """Bands, templates, policies by type and by name."""
    flow = assemble(
        config(
            "maxRequests: 10k, maxBytes: 1Gi, defaultRequestTTL: 5s, noEndpointRequestTTL: 20s, max_wait_seconds: 30,"
            " oldest_every: 7, defaultPriorityBand: {fairnessPolicyRef: tenants},"
            " defaultNegativePriorityBand: {maxRequests: 3},"
            " priorityBands: [{priority: 9, maxBytes: 100, fairnessPolicyRef: round-robin-fairness-policy,"
            " orderingPolicyRef: edf-ordering-policy, defaultRequestTTL: 1500ms}]",
            "featureGates: [flowControl]\nplugins: [{type: weighted-tokens-fairness-policy, name: tenants,"
            " parameters: {weights: {a: 2}}}]\n",
        )
    ).flow
    assert flow is not None
    limits, named = flow.limits, flow.limits.band(9)
    assert (limits.max_requests, limits.max_bytes, limits.oldest_every) == (10_000, 2**30, 7)
    assert (flow.ttl, flow.no_endpoint_ttl, flow.max_wait) == (5.0, 20.0, 30.0)
    assert limits.band(0).fairness == WeightedTokens({"a": 2.0})
    assert limits.band(-5).max_requests == 3
    assert (named.fairness, named.ordering, named.ttl, named.max_bytes) == (
        RoundRobin(),
        EarliestDeadline(),
        1.5,
        100,
    )


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        ("maxRequest: 5", "maxRequest"),
        ("defaultRequestTTL: 2m", "above max_wait_seconds"),
        ("defaultRequestTTL: soon", "defaultRequestTTL: expected a time"),
        ("enableEviction: often", "enableEviction"),
        ("usageLimitPolicyPluginRef: x", "usageLimitPolicyPluginRef: is not supported"),
        ("priorityBands: [{priority: 1}, {priority: 1}]", "two bands"),
        ("defaultPriorityBand: {fairnessPolicyRef: fcfs-ordering-policy}", "is no fairness policy"),
        (
            "defaultPriorityBand: {orderingPolicyRef: nonsense}",
            r"defaultPriorityBand\.orderingPolicyRef: .*'nonsense'",
        ),
        ("priorityBands: [{priority: 1, fairnessPolicyRef: x}]", r"priorityBands\[0\]\.fairnessPolicyRef"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(flow, said):
    """Never ignored, with the gate off or on."""
    with pytest.raises(ConfigError, match=said):
        assemble(config(flow))


def test_the_configuration_on_the_page_is_good():
    """docs/flow-control.md can be copied."""
    page = (Path(__file__).parents[3] / "docs" / "flow-control.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    flow = assemble(parse(block + "pools: [{name: llama, endpoints: ['a:1']}]\n", EndpointPickerConfig)).flow
    assert flow is not None
    assert flow.limits.band(0).fairness == WeightedTokens({"gold": 3.0})
