"""`rewrites` in the file: InferenceModelRewrite's form, and every mistake named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.epp.assemble import assemble
from services.epp.config import EndpointPickerConfig
from services.extproc.config import ConfigError, parse
from services.openai.rewrites import Rewrite, Target

HEAD = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
pools: [{name: a, endpoints: ['h:1']}, {name: b, endpoints: ['h:2']}]
rewrites:
"""


def read(rewrites: str) -> EndpointPickerConfig:
    return parse(HEAD + rewrites, EndpointPickerConfig)


def test_a_rule_is_what_the_reference_means_by_it():
    """Weights are 1 and matches exact where nothing is said; a rewrite of one pool is in that pool's table only."""
    found = assemble(
        read(
            "- {name: r, sticky: User, rules: [{matches: [{model: {value: x}}], targets: [{modelRewrite: t}]}]}\n"
            "- {name: s, pool: b, rules: [{targets: [{modelRewrite: u, weight: 7}]}]}\n"
        )
    ).rewrites

    exact = Rewrite("r", (Target("t", 1),), matches=("x",), sticky="user")
    assert [found[pool].find("x") for pool in "ab"] == [exact, exact]
    assert [found[pool].find("y") for pool in "ab"] == [None, Rewrite("s", (Target("u", 7),))]
    assert not any(assemble(read(" []")).rewrites.values())


def test_what_the_page_shows_can_be_used():
    """As it stands, with its pool."""
    page = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()
    text = page.partition("## Rewrites behind")[2].partition("```yaml\n")[2].partition("```")[0]
    assert text.startswith("rewrites:")
    table = assemble(
        parse(HEAD.replace("name: a", "name: llama") + text[len("rewrites:\n") :], EndpointPickerConfig)
    ).rewrites["llama"]

    chat, other = table.find("chat"), table.find("other")
    assert chat is not None
    assert other is not None
    assert [target.weight for target in chat.targets] == [95, 5]
    assert other.targets == (Target("llama-3.2"),)


@pytest.mark.parametrize(
    ("rewrites", "message"),
    [
        ("- {name: r, rules: []}", r"\$.rewrites\[0\].rules"),
        ("- {name: r, rules: [{targets: []}]}", r"\$.rewrites\[0\].rules\[0\].targets"),
        ("- {name: r, rules: [{targets: [{model: x}]}]}", r"unknown field `model`.*targets\[0\]"),
        ("- {name: r, rules: [{targets: [{modelRewrite: x, weight: 0}]}]}", r"targets\[0\].weight"),
        ("- {name: r, rules: [{targets: [{modelRewrite: x, weight: 1000001}]}]}", r"targets\[0\].weight"),
        (
            "- {name: r, rules: [{matches: [{model: {type: Prefix, value: x}}], targets: [{modelRewrite: x}]}]}",
            r"matches\[0\].model.type",
        ),
        ("- {name: r, pool: c, rules: [{targets: [{modelRewrite: x}]}]}", r"rewrites\[0\].pool: no pool 'c'"),
        (
            "- {name: r, sticky: cookie, rules: [{targets: [{modelRewrite: x}]}]}",
            r"rewrites\[0\].rules\[0\]: 'r' is sticky by 'cookie'",
        ),
        (
            "- &r {name: r, rules: [{targets: [{modelRewrite: x}]}]}\n- *r",
            r"rewrites\[1\].name: 'r' is there twice",
        ),
        (
            '- {name: r, rules: [{targets: [{modelRewrite: "a\\nb"}]}]}',
            r"rewrites\[0\].rules\[0\]: 'r' leads to what is no model",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(rewrites, message):
    """By `inference-gateway check` and at start alike."""
    with pytest.raises(ConfigError, match=message):
        assemble(read(rewrites))
