from __future__ import annotations

import json

import pytest

from services.extproc.config import ConfigError
from services.safety.verdict import Action, Confidence
from tests.safety import kit
from tests.safety.exchange import Exchange, error, prompt

SETTINGS = [
    {
        "model": "default",
        "user_prompt_template_id": "projects/p/locations/europe-west4/templates/strict",
        "model_response_template_id": "projects/p/locations/europe-west4/templates/strict",
    },
    {"model": "lab", "user_prompt_template_id": "watch"},
]
CONFIG = f"""
policies: {{}}
model_armor:
  settings: '{json.dumps(SETTINGS)}'
  error_type: plain_text
  templates:
    strict:
      name: projects/p/locations/europe-west4/templates/strict
      filterConfig:
        piAndJailbreakFilterSettings: {{filterEnforcement: ENABLED, confidenceLevel: HIGH}}
        sdpSettings: {{basicConfig: {{filterEnforcement: ENABLED}}}}
      templateMetadata: {{customPromptSafetyErrorMessage: "Not {{here}}.", customPromptSafetyErrorCode: 451, logSanitizeOperations: true}}
    watch:
      filterConfig: {{sdpSettings: {{basicConfig: {{filterEnforcement: ENABLED}}}}}}
      templateMetadata: {{enforcementType: INSPECT_ONLY}}
"""
RAI = "filterConfig: {raiSettings: {raiFilters: [{filterType: HATE_SPEECH, confidenceLevel: MEDIUM_AND_ABOVE}]}}"
WATCHED = "filterConfig: {sdpSettings: {basicConfig: {filterEnforcement: ENABLED}}}"


def ask(text=CONFIG, **more):
    return Exchange(policies=kit.policies(text, **more))


async def test_a_template_blocks_with_its_own_message_and_code():
    """As on GKE: sensitive data by rules, the custom message, JSON under text/plain."""
    sent = await ask().ask(prompt("4111 1111 1111 1111"), headers={"x-gateway-model-name": "any"})
    assert sent.rejected.status == 451
    assert error(sent.rejected)["message"] == "Not {here}."
    assert ("content-type", "text/plain") in sent.rejected.headers


async def test_inspect_only_changes_nothing_and_reports():
    """The template runs as the shadow of an empty policy."""
    exchange = ask()
    sent = await exchange.ask(prompt("4111 1111 1111 1111"), headers={"x-gateway-model-name": "lab"})
    assert sent.rejected is None
    await exchange.service.shadows.drain()
    assert [(r.policy, r.verdict.action, r.enforced) for r in exchange.heard.records] == [
        ("model-armor:lab", Action.ALLOW, True),
        ("model-armor:lab:inspect", Action.BLOCK, False),
    ]


def test_confidence_levels_carry_over():
    """HIGH means high alone."""
    side = kit.policies(CONFIG).by_name["model-armor:default"].prompt
    (injection,) = [reaction for reaction in side.actions if "injection" in reaction.names]
    assert (injection.action, injection.confidence) == (Action.BLOCK, Confidence.HIGH)


def test_a_floor_makes_laxer_templates_stricter():
    """What the floor enables is on, at the stricter of both levels; what a template has beyond it stays."""
    floor = """
  floor:
    enableFloorSettingEnforcement: true
    filterConfig: {piAndJailbreakFilterSettings: {filterEnforcement: ENABLED, confidenceLevel: MEDIUM_AND_ABOVE}}
"""
    policies = kit.policies(CONFIG + floor)
    for name in ("model-armor:default", "model-armor:lab:inspect"):
        reactions = policies.by_name[name].prompt.actions
        assert [min(reaction.names) for reaction in reactions] == ["card", "injection"]
        assert reactions[1].confidence is Confidence.MEDIUM


def test_what_no_rule_does_needs_a_provider():
    """A filter that nobody runs is an error, not a silent gap; with a provider it is asked, in windows on streams."""
    rai = CONFIG.replace(WATCHED, RAI)
    with pytest.raises(ConfigError, match="no rule does raiSettings of template 'watch'"):
        kit.policies(rai)
    with_provider = rai.replace(
        "model_armor:", "providers: {armor: {type: far}}\nmodel_armor:\n  provider: armor"
    )
    side = kit.policies(with_provider, providers={"far"}).by_name["model-armor:lab:inspect"].prompt
    assert [provider.name for provider in side.providers] == ["armor"]
    assert [(reaction.names, reaction.confidence) for reaction in side.actions] == [
        ({"hate-speech"}, Confidence.MEDIUM)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONFIG.replace('"watch"', '"wach"'), "template 'wach' is not in model_armor.templates"),
        (CONFIG.replace('"lab"', '"lab", "odd": 1'), "model_armor.settings"),
        (CONFIG.replace("sdpSettings", "sdpSetings"), "sdpSetings"),
    ],
)
def test_what_cannot_be_read_is_refused(text, message):
    """With its place."""
    with pytest.raises(ConfigError, match=message):
        kit.policies(text)


def test_our_own_policies_go_first():
    """`models` and an existing default are not overruled."""
    own = CONFIG.replace("policies: {}", "policies: {default: {}, mine: {}}\nmodels: {lab: mine}")
    policies = kit.policies(own)
    assert policies.choose("lab").name == "mine"
    assert policies.choose("any").name == "default"
