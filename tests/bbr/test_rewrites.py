from __future__ import annotations

import pytest

from services.bbr.rules import BaseModel, Resolution, RuleError, Rules, UnknownModels
from services.openai.rewrites import Rewrite, Target
from tests.bbr.world import way

MODELS = (BaseModel("llama", adapters=("food",)), BaseModel("old"), BaseModel("new"))
SPLIT = (Target("old", 90), Target("new", 10))
CANARY = Rewrite("canary", SPLIT, matches=("old",), sticky="user")


def to(target: str) -> tuple[Target, ...]:
    return (Target(target),)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("gpt", Resolution("llama", "llama", rewritten=True, rule="exact")),
        ("food", Resolution("new", "new", rewritten=True, rule="generic")),
        ("new", Resolution("new", "new", rewritten=False, rule="generic")),
        ("l", Resolution("llama", "llama", rewritten=True, rule="alias")),
        ("anything", Resolution("new", "new", rewritten=True, rule="generic")),
        ("", None),
        ("a\nb", None),
    ],
)
def test_exact_beats_alias_beats_generic_and_then_the_first_counts(asked, expected):
    """As InferenceModelRewrite has it; a generic rewrite takes models and adapters too."""
    rewrites = (
        Rewrite("generic", to("new")),
        Rewrite("exact", to("llama"), matches=("gpt",)),
        Rewrite("exact-too-late", to("old"), matches=("gpt",)),
        Rewrite("generic-too-late", to("old")),
    )
    assert way(Rules(MODELS, {"l": "llama"}, rewrites=rewrites), asked) == expected


@pytest.mark.parametrize(("asked", "target"), [("anything", "new"), ("food", "food"), ("l", "llama")])
def test_a_generic_rewrite_can_leave_known_names_alone(asked, target):
    """To catch what clients invent."""
    rules = Rules(MODELS, {"l": "llama"}, rewrites=(Rewrite("rest", to("new"), only_unknown=True),))
    found = way(rules, asked)
    assert found is not None
    assert found.target == target


def test_the_request_says_what_it_is_bound_to():
    """The rule's own kind of key is asked for."""
    asked: list[str] = []

    def key(kind: str) -> str:
        asked.append(kind)
        return "ann"

    way(Rules(MODELS, rewrites=(CANARY,)), "old", key)
    assert asked == ["user"]


@pytest.mark.parametrize(
    ("rewrite", "message"),
    [
        (Rewrite("r", ()), "no target"),
        (Rewrite("r", to("nobody")), "no model or adapter: nobody"),
        (Rewrite("r", (Target("old", 0),)), "weight of 0"),
        (Rewrite("r", (Target("old", 1_000_001),)), "weight of 1000001"),
        (Rewrite("r", to("old"), matches=("a\n",)), "no model name"),
        (Rewrite("r", to("old"), matches=("a",), only_unknown=True), "only_unknown"),
        (Rewrite("r", to("old"), sticky="cookie"), "sticky by 'cookie'"),
    ],
)
def test_a_rewrite_that_cannot_be_is_refused(rewrite, message):
    """At start or at reload, by its name."""
    with pytest.raises(RuleError, match=message):
        Rules(MODELS, rewrites=(rewrite,))


def test_two_rewrites_need_two_names():
    """Metrics tell them apart by it."""
    with pytest.raises(RuleError, match="same name: r"):
        Rules(MODELS, rewrites=(Rewrite("r", to("old")), Rewrite("r", to("new"))))


def test_a_target_may_be_unknown_where_unknown_models_are_forwarded():
    """Routes may know it."""
    rules = Rules(MODELS, unknown=UnknownModels.FORWARD, rewrites=(Rewrite("r", to("far")),))
    assert way(rules, "x") == Resolution("far", "far", rewritten=True, rule="r")


def test_a_default_must_be_a_name():
    """An alias, a rewritten name, a model."""
    with pytest.raises(RuleError, match="default model 'nobody'"):
        Rules(MODELS, default_model="nobody")
    Rules(MODELS, rewrites=(Rewrite("r", to("old"), matches=("gpt",)),), default_model="gpt")
