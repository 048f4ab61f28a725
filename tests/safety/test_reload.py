from __future__ import annotations

import pytest

from services.extproc.config import ConfigError, load
from services.safety.assemble import Assembled, assemble
from services.safety.config import SafetyConfig
from services.safety.reload import LivePolicies

GOOD = "policies: {default: {prompt: {actions: [{match: [RULE], action: block}]}}}\n"


@pytest.fixture
def live(tmp_path):
    """Return what reads a text as the configuration, the policies in force, and what was put in force."""
    path = tmp_path / "safety.yaml"
    used: list[Assembled] = []

    def read(text: str) -> SafetyConfig:
        path.write_text(text)
        return load(path, SafetyConfig)

    first = read(GOOD.replace("RULE", "secret"))
    policies = LivePolicies(first, compile_=lambda changed: assemble(changed, {}, ()), use=used.append)
    return read, policies, used


async def test_changed_policies_take_effect(live):
    """They are compiled and handed over once."""
    read, policies, used = live
    assert await policies.apply(read(GOOD.replace("RULE", "card"))) == ()
    (assembled,) = used
    (reaction,) = assembled.policies.by_name["default"].prompt.actions
    assert reaction.names == {"card"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (GOOD.replace("RULE", "crad"), "crad"),
        (GOOD + "providers: {far: {type: far}}\n", "providers: changes only with a restart"),
    ],
)
async def test_a_file_that_cannot_be_put_in_force_changes_nothing(live, text, why):
    """And a good one after it is taken."""
    read, policies, used = live
    with pytest.raises(ConfigError, match=why):
        await policies.apply(read(text.replace("RULE", "card")))
    assert used == []
    await policies.apply(read(GOOD.replace("RULE", "card")))
    assert len(used) == 1


async def test_rule_files_are_followed_with_the_file(live, tmp_path):
    """Those of the configuration in force, which a new one may change."""
    read, policies, _ = live
    assert list(policies.files()) == []
    rules = tmp_path / "own.yaml"
    rules.write_text("[]\n")
    await policies.apply(read(GOOD.replace("RULE", "card") + f"rules: [{rules}]\n"))
    assert list(policies.files()) == [rules]
