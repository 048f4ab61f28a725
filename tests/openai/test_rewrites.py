"""A rewrite picks a target by weight: by chance, or for good by a key; and a table finds the rewrite."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest

from services.openai.rewrites import Rewrite, Table, Target

SPLIT = (Target("old", 90), Target("new", 10))
CANARY = Rewrite("canary", SPLIT, matches=("old",), sticky="user")
KEYS = [f"user-{number}" for number in range(4_000)]


def test_an_exact_rewrite_comes_before_a_generic_one_and_then_the_first_counts():
    """Wherever it stands; without a generic one, other names are left alone."""
    to = (Target("new"),)
    generic, exact = Rewrite("generic", to), Rewrite("exact", to, matches=("a", "b"))
    late = Rewrite("late", to, matches=("b", "c"))
    table = Table((generic, exact, late, Rewrite("too late", to)))

    assert [table.find(name) for name in "abcd"] == [exact, exact, late, generic]
    assert Table((exact,)).find("d") is None


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
        "import random; from services.openai.rewrites import Rewrite, Target;"
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
