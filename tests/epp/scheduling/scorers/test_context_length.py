"""Servers meant for short or for long prompts."""

from __future__ import annotations

import pytest

from services.epp.scheduling.scorers.context_length import ContextLength
from tests.epp.scheduling.world import prompt, server, slots

LABEL = "llm-d.ai/context-length-range"


@pytest.mark.parametrize(
    ("label", "tokens", "expected"),
    [
        ("0-2000", 500, 0.3 + 0.7 * (0.7 / 1.2 + 0.3 * 0.75)),
        ("0-10000", 0, 0.3 + 0.7 * (0.35 + 0.3)),
        ("500-500", 500, 1.0),
        ("0-2000", 3000, 0.15),  # a thousand beyond
        ("2000-4000", 1500, 0.2),  # five hundred short
        ("0-100,400-600", 500, 0.3 + 0.7 * (0.7 / 1.02 + 0.15)),  # the best range counts
        ("many", 500, 0.0),
        ("9-5", 7, 0.0),
    ],
)
def test_the_formula_of_the_reference(label, tokens, expected):
    """Tight ranges first, then near ones."""
    servers = [server(0, labels={LABEL: label})]

    assert list(ContextLength().score(prompt(tokens), servers)) == pytest.approx([expected])


def test_a_server_without_the_label_is_neutral():
    """It takes anything."""
    assert ContextLength().score(prompt(500), [server(0)]) == [0.5]


def test_it_filters_only_when_told_so():
    """Servers without the label, and those in range, stay."""
    servers = [server(0, labels={LABEL: "0-2000"}), server(1, labels={LABEL: "0-8000"}), server(2)]

    assert slots(ContextLength().keep(prompt(3000), servers)) == [0, 1, 2]
    assert slots(ContextLength(enable_filtering=True).keep(prompt(3000), servers)) == [1, 2]


def test_another_label_can_be_named():
    """For clusters that have their own."""
    plugin = ContextLength(label="ctx")

    assert plugin.score(prompt(7), [server(0, labels={"ctx": "7-7"})]) == [1.0]
