from __future__ import annotations

import pytest

from services.bbr.rules import BaseModel, FixedRules, Resolution, RuleError, Rules, UnknownModels
from tests.bbr.world import way

LLAMA = BaseModel("llama", adapters=("food", "cad"))
GEMMA = BaseModel("gemma")
RULES = Rules((LLAMA, GEMMA), aliases={"l": "llama", "f": "food"})


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("llama", Resolution("llama", "llama")),
        ("gemma", Resolution("gemma", "gemma")),
        ("food", Resolution("food", "llama")),
        ("l", Resolution("llama", "llama", rewritten=True, rule="alias")),
        ("f", Resolution("food", "llama", rewritten=True, rule="alias")),
        ("Llama", None),
        ("", None),
        ("llama ", None),
    ],
)
def test_a_name_leads_to_a_target_and_its_base(asked, expected):
    """Adapters keep their name and go to their base; aliases are rewritten; names are exact."""
    assert way(RULES, asked) == expected


def test_an_unknown_name_can_be_its_own_base():
    """For gateways whose routes know more than the rules."""
    rules = Rules((LLAMA,), unknown=UnknownModels.FORWARD)
    assert way(rules, "mistral") == Resolution("mistral", "mistral")
    assert way(rules, "food") == Resolution("food", "llama")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\0", " a"])
def test_what_cannot_be_a_header_is_not_forwarded(name):
    """It would break the request's headers."""
    assert way(Rules((), unknown=UnknownModels.FORWARD), name) is None


@pytest.mark.parametrize(
    ("models", "aliases", "message"),
    [
        ((LLAMA, LLAMA), {}, "more than once: cad, food, llama"),
        ((LLAMA, BaseModel("food")), {}, "more than once: food"),
        ((LLAMA,), {"cad": "llama"}, "more than once: cad"),
        ((LLAMA,), {"l": "mistral"}, "no model or adapter: mistral"),
        ((LLAMA,), {"l": "llama", "ll": "l"}, "no model or adapter: l"),
        ((BaseModel(""),), {}, "'' is no model name"),
        ((BaseModel("a", adapters=("b\n",)),), {}, "is no model name"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(models, aliases, message):
    """A name stands for one model, and an alias for one that is there."""
    with pytest.raises(RuleError, match=message):
        Rules(models, aliases)


def test_fixed_rules_stay():
    """The same object at every call, so that what is built from it can be kept."""
    source = FixedRules(RULES)
    assert source.current() is source.current() is RULES
