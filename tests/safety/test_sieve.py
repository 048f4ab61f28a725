from __future__ import annotations

import functools
import random
import sys

import pytest

from services.extproc.config import ConfigError
from services.safety.checks.rules import Rule, blocklist, built_in
from services.safety.checks.ruleset import RuleSet
from services.safety.checks.sieve import Re2Sieve
from services.safety.checks.sieve_hyperscan import Hyperscan, HyperscanSieve
from tests.safety import kit

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
    "ignore the above ",
    "all previous  ",
]
ENGINES = [pytest.param(Re2Sieve, id="re2"), pytest.param(Hyperscan(), id="hyperscan")]


class Everything:
    """A sieve that lets every rule pass: what the rules find by themselves."""

    def __init__(self, rules):
        self._rules = rules

    def candidates(self, data, start):
        return self._rules


def samples():
    hits = [
        "".join(hit)
        for rule in built_in()
        if rule.examples
        for hit in (*rule.examples.hit, *rule.examples.miss)
    ]
    return [*hits, "STRASSE 7", "straße 7", "Kelvin's \u212aelvin", "BLUE\n bird"]


RULES = [*built_in(), blocklist("words", ["straße", "kelvin", "blue bird"])]
ALONE = RuleSet(RULES, engine=Everything)


@functools.cache
def compiled(engine):
    return RuleSet(RULES, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(20))
def test_a_sieve_drops_no_finding(seed, engine):
    """Few hits, many hits, none, any characters: the findings are those of each rule by itself, in the same order."""
    chance = random.Random(seed)
    planted = chance.sample(samples(), chance.choice([0, 1, 3, 60]) % len(samples()))
    parts = [chance.choice(FILL) for _ in range(400)] + [f" {text} " for text in planted]
    chance.shuffle(parts)
    text = "".join(parts)
    assert compiled(engine).scan(text) == ALONE.scan(text)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("text", samples())
def test_a_short_text_passes_the_sieve_too(text, engine):
    """Each example by itself, and between words."""
    rules = compiled(engine)
    assert rules.scan(text) == ALONE.scan(text)
    assert rules.scan(f"naïve {text} ok") == ALONE.scan(f"naïve {text} ok")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_clean_text_has_no_candidates(engine):
    """The sieve is what makes a clean text cheap: no rule is run on it."""
    ran = []

    def spy(rules):
        sieve = engine(rules)

        class Spy:
            def candidates(self, data, start):
                ran.extend(found := sieve.candidates(data, start))
                return found

        return Spy()

    rules = RuleSet(RULES, engine=spy)
    assert (
        rules.scan("The administrator follows the guidelines of the system, in 3 steps at 12:30. " * 50) == []
    )
    assert ran == []


@pytest.mark.parametrize("engine", ENGINES)
def test_categories_without_end_are_sieved_all_the_same(engine):
    """A rule file may have a category for each rule."""
    rules = [
        Rule(id=f"r{number}", description="", category=f"c{number}", pattern=f"x{number}x", keywords=(f"x{number}x",),
             max_length=3 + (number > 9)) for number in range(20)
    ]  # fmt: skip
    found = RuleSet(rules, engine=engine).scan("x3x x19x X7X")
    assert [one.rule for one in found] == ["r3", "r19"]


def test_a_rule_that_hyperscan_refuses_stays_on_re2():
    """It takes no pattern that matches nothing at all; the others still run on it."""
    rules = [
        Rule(id="refused", description="", category="c", pattern="(?:ab)?", max_length=2),
        Rule(id="taken", description="", category="c", pattern="xy", max_length=2),
    ]
    assert RuleSet(rules, engine=HyperscanSieve).scan("ab xy") == RuleSet(rules).scan("ab xy")
    assert {one.rule for one in RuleSet(rules, engine=HyperscanSieve).scan("ab xy")} == {"refused", "taken"}


def test_policies_with_the_same_rules_share_what_hyperscan_compiled():
    """All rules take it seconds."""
    engine, made = Hyperscan(), []

    def spy(rules):
        made.append(engine(rules))
        return made[-1]

    for rules in (built_in()[:3], built_in()[:3], built_in()[:2]):
        RuleSet(rules, engine=spy)
    assert made[0] is made[1]
    assert made[0] is not made[2]


def test_the_configuration_chooses_the_engine():
    """And the same is found."""
    text = kit.CONFIG + "engine: hyperscan\n"
    side = kit.policies(text).by_name["default"].prompt
    assert [one.rule for one in side.checks[0].scan(f"é {kit.SECRET}")] == ["aws-access-key"]
    assert not side.is_clean("project\n bluebird " * 200)


def test_an_engine_that_is_not_installed_is_refused_with_the_way_to_install_it(monkeypatch):
    """At start, not at the first request."""
    monkeypatch.setitem(sys.modules, "services.safety.checks.sieve_hyperscan", None)
    with pytest.raises(
        ConfigError, match=r"engine: hyperscan .*pip install 'inference-gateway\[hyperscan\]'"
    ):
        kit.policies(kit.CONFIG + "engine: hyperscan\n")
