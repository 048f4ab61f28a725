from __future__ import annotations

from pathlib import Path

import pytest

from services.extproc.config import ConfigError, load
from services.safety.assemble import assemble
from services.safety.checks.base import Windowed
from services.safety.config import SafetyConfig
from services.safety.verdict import Action, Finding
from tests.safety import kit

ROOT = Path(__file__).parents[2]


def test_the_shipped_configuration_is_valid_and_means_what_it_says():
    """Secrets are blocked in prompts and masked in answers, the list is blocked both ways, `off` does nothing."""
    policies = assemble(load(ROOT / "config/safety.yaml", SafetyConfig), {}, ()).policies
    policy = policies.choose("any")
    secret, word = Finding("jwt", 0, 1, "secret"), Finding("code-names", 0, 1, "blocklist")
    assert (policy.prompt.action(secret), policy.response.action(secret)) == (Action.BLOCK, Action.REDACT)
    assert (policy.prompt.action(word), policy.response.action(word)) == (Action.BLOCK, Action.BLOCK)
    assert policies.choose("any", "off").prompt.idle


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policies: {default: {prompt: {actions: [{match: [sercet], action: block}]}}}", "policies.default.prompt.actions: 'sercet'"),
        ("policies: {default: {prompt: {acions: []}}}", "acions"),
        ("policies: {default: {prompt: {actions: [{match: [secret], action: blok}]}}}", "blok"),
        ("policies: {p: {}}", "default: 'default'"),
        ("policies: {default: {}}\nmodels: {m: q}", "models: 'q'"),
        ("policies: {default: {}}\nblocklists: {a: []}", "'a'"),
        ("policies: {default: {}}\nblocklists: {jwt: [x]}", "defined twice: jwt"),
        ("policies: {default: {prompt: {message: '{rule}'}}}", "message"),
        ("policies: {default: {response: {overlap: 101}}}", "overlap: expected at most half of the window, 100"),
        ("policies: {default: {prompt: {checks: [mine]}}}", "checks: 'mine'"),
        ("policies: {default: {}}\nproviders: {p: {type: x}}", "providers.p.type: 'x'"),
        ("policies: {default: {response: {actions: [{match: [github-token], action: redact}, {match: [names], action: block}], hold_limit: 256}}}\nblocklists: {names: [" + "x" * 300 + "]}", "hold_limit"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(text, message):
    """At start, in one sentence."""
    with pytest.raises(ConfigError, match=message):
        kit.policies(text)


def test_the_first_entry_that_fits_decides():
    """An exception stands before the rule."""
    text = "policies: {default: {prompt: {actions: [{match: [jwt], action: allow}, {match: [secret], action: block}]}}}"
    side = kit.policies(text).choose("m").prompt
    assert "jwt" not in {rule.id for rule in side.checks[0].inner.rules}
    assert side.action(Finding("jwt", 0, 1, "secret")) is Action.ALLOW


class Shouting:
    """A third party's check: words in capitals."""

    max_length = 5

    def __init__(self, parameters):
        self.word = str(parameters["word"])

    def scan(self, text):
        return [
            Finding("shout", at, at + len(self.word), "tone")
            for at in range(len(text))
            if text.startswith(self.word, at)
        ]

    def scanner(self):
        return Windowed(self, self.max_length)


def test_another_packages_check_runs_like_a_rule():
    """Registered by name, made of its parameters, held back by its own longest match."""
    text = """
checks: {shouting: {type: shout, parameters: {word: HELLO}}}
policies: {default: {response: {actions: [{match: [tone], action: redact}], checks: [shouting]}}}
"""
    side = kit.policies(text, checks={"shout": Shouting}).choose("m").response
    (check,) = side.checks
    for cut in range(12):
        scanner = check.scanner()
        found = [
            f for part in ("oh HELLO you"[:cut], "oh HELLO you"[cut:]) for f in scanner.feed(part).findings
        ]
        assert [(f.start, f.end) for f in (*found, *scanner.feed("", final=True).findings)] == [(3, 8)]
