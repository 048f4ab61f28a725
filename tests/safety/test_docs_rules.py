"""`docs/safety.md` and `config/safety.yaml` tell of the rules as they are."""

from __future__ import annotations

import re
from pathlib import Path

from services.safety.checks.rules import built_in
from services.safety.checks.validators import VALIDATORS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "safety.md").read_text()
CONFIG = (ROOT / "config" / "safety.yaml").read_text()
SECTION = PAGE.partition("## Built-in checks\n")[2].partition("\n## ")[0]


def test_the_table_of_the_page_is_the_rules_loaded():
    """Id, category, confidence, validator and description, each rule once, none besides."""
    found = re.findall(r"^\| `([^`]+)` \| (\S+) \| (\S+) \| `?([^`|]+?)`? \| (.+) \|$", SECTION, re.MULTILINE)
    rules = [
        (rule.id, rule.category, rule.confidence, rule.validator or "–", rule.description)
        for rule in built_in()
    ]
    assert sorted(found) == sorted(rules)


def test_the_page_explains_every_validator():
    """Those that rules name, and no other."""
    explained = SECTION.partition("**Validators**")[2].partition("\n- **")[0]
    assert set(re.findall(r"`(\w+)`", explained)) == set(VALIDATORS)


def test_the_configuration_lists_every_rule_by_category():
    """Where an operator looks first."""
    listed = dict(re.findall(r"^#   (\w+): +((?:[\w -]+\n# {6,})*[\w -]+)$", CONFIG, re.MULTILINE))
    rules: dict[str, set[str]] = {}
    for rule in built_in():
        rules.setdefault(rule.category, set()).add(rule.id)
    assert {name: set(re.findall(r"[\w-]+", ids)) for name, ids in listed.items() if name in rules} == rules
