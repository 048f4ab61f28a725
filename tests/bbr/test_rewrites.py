from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest

from services.bbr.rewrites import Rewrite, Target
from services.bbr.rules import BaseModel, Resolution, RuleError, Rules, UnknownModels
from tests.bbr.world import way

MODELS = (BaseModel("llama", adapters=("food",)), BaseModel("old"), BaseModel("new"))
SPLIT = (Target("old", 90), Target("new", 10))
CANARY = Rewrite("canary", SPLIT, matches=("old",), sticky="user")
KEYS = [f"user-{number}" for number in range(4_000)]


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


@pytest.mark.parametrize("key", ["", "user"])
def test_the_weights_hold(key):
    """By chance and by key alike: within 4.5 standard deviations."""
    chance = random.Random(1)
    picks = Counter(CANARY.pick(f"{key}{n}" if key else "", chance) for n in range(10_000))
    assert abs(picks["new"] - 1_000) < 4.5 * (10_000 * 0.1 * 0.9) ** 0.5


def test_a_key_keeps_its_target():
    """Whatever chance says, in whatever order the targets stand."""
    turned = Rewrite("canary", SPLIT[::-1], matches=("old",))
    for key in KEYS[:200]:
        assert CANARY.pick(key, random.Random(1)) == turned.pick(key, random.Random(2))


def test_a_key_keeps_its_target_in_another_process():
    """Replicas and restarts agree."""
    code = (
        "import random; from services.bbr.rewrites import Rewrite, Target;"
        "r = Rewrite('canary', (Target('old', 90), Target('new', 10)));"
        "print(*(r.pick(f'user-{n}', random.Random()) for n in range(300)))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.split() == [CANARY.pick(key, random.Random()) for key in KEYS[:300]]


@pytest.mark.parametrize(
    ("targets", "moved_from"),
    [
        ((Target("old", 90), Target("new", 40)), {"old"}),
        ((*SPLIT, Target("third", 10)), {"old", "new"}),
    ],
)
def test_growing_a_target_moves_keys_to_it_alone(targets, moved_from):
    """The others stay where they are: a canary that grows takes users, and gives none back."""
    grown = Rewrite("canary", targets)
    moves = {
        (before, after)
        for key in KEYS
        if (before := CANARY.pick(key, random.Random())) != (after := grown.pick(key, random.Random()))
    }
    assert moves == {(name, targets[-1].model) for name in moved_from}


def test_two_rewrites_do_not_choose_the_same_users():
    """Or the same unlucky ones would get every canary."""
    other = Rewrite("other", SPLIT)
    both = sum(CANARY.pick(key, random.Random()) == other.pick(key, random.Random()) == "new" for key in KEYS)
    assert both < 4_000 * 0.03


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
