"""Filters by label: Kubernetes' selectors, and the reference's older form."""

from __future__ import annotations

import pytest

from services.epp.plugins import PluginError, build
from services.epp.scheduling.filters.labels import ByLabel, LabelSelector, Requirement
from services.epp.scheduling.interfaces import Filter
from tests.epp.scheduling.world import server, situation, slots

SERVERS = [
    server(0, labels={"tier": "fast", "gpu": "h100"}),
    server(1, labels={"tier": "slow"}),
    server(2),
]


def kept(plugin: Filter) -> list[int]:
    return slots(plugin.keep(situation(), SERVERS))


def test_all_match_labels_must_match():
    """One that differs or lacks is enough to fail."""
    assert kept(LabelSelector({"tier": "fast"})) == [0]
    assert kept(LabelSelector({"tier": "slow", "gpu": "h100"})) == []


def test_an_empty_selector_matches_everything():
    """As in Kubernetes."""
    assert kept(LabelSelector()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("In", ("fast", "medium"), [0]),
        ("NotIn", ("fast",), [1, 2]),  # a server without the label is not in either
        ("Exists", (), [0, 1]),
        ("DoesNotExist", (), [2]),
    ],
)
def test_expressions_mean_what_they_mean_in_kubernetes(operator, values, expected):
    """The four operators."""
    assert kept(LabelSelector(match_expressions=(Requirement("tier", operator, values),))) == expected


def test_labels_and_expressions_must_both_match():
    """They are one conjunction."""
    assert kept(LabelSelector({"tier": "slow"}, (Requirement("gpu", "Exists"),))) == []


@pytest.mark.parametrize(("operator", "values"), [("In", []), ("Exists", ["a"])])
def test_an_expression_with_the_wrong_number_of_values_is_refused(operator, values):
    """Kubernetes refuses it too."""
    expression = {"key": "tier", "operator": operator, "values": values}
    with pytest.raises(PluginError, match=r"matchExpressions: operator .* In and NotIn need some"):
        build("label-selector-filter", {"matchExpressions": [expression]})


def test_one_label_with_some_values():
    """A server without it passes only when that is allowed."""
    assert kept(ByLabel("tier", ("fast", "medium"))) == [0]
    assert kept(ByLabel("tier", ("fast",), allows_no_label=True)) == [0, 2]
