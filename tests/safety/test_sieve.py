from __future__ import annotations

import random

import pytest

from services.safety.checks import ruleset
from services.safety.checks.rules import blocklist, built_in
from services.safety.checks.ruleset import RuleSet

FILL = [
    "the harbour ",
    "4111 ",
    "sk-",
    "AKİA ",
    "é😀 ",
    "http://a.b/c?d=e ",
    "\n",
    "\u017fk_live ",  # a long s folds to s
    "192.168.0.",
    "@",
]


def samples():
    hits = [
        "".join(hit)
        for rule in built_in()
        if rule.examples
        for hit in (*rule.examples.hit, *rule.examples.miss)
    ]
    return [*hits, "STRASSE 7", "straße 7", "Kelvin's \u212aelvin"]


@pytest.mark.parametrize("seed", range(20))
def test_a_long_text_gives_what_the_keyword_automaton_gives(seed, monkeypatch):
    """The quick pass over long texts drops no finding: few hits, many hits, none, any characters."""
    chance = random.Random(seed)
    rules = RuleSet([*built_in(), blocklist("words", ["straße", "kelvin", "blue bird"])])
    planted = chance.sample(samples(), chance.choice([0, 1, 3, 60]) % len(samples()))
    parts = [chance.choice(FILL) for _ in range(400)] + [f" {text} " for text in planted]
    chance.shuffle(parts)
    text = "".join(parts)
    quick = sorted(map(repr, rules.scan(text)))
    monkeypatch.setattr(ruleset, "_LONG", len(text) * 8)
    assert quick == sorted(map(repr, rules.scan(text)))
