"""From Model Armor's configuration to policies, so that what ran on GKE runs here. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from services.extproc.config import ConfigError
from services.safety.armor_config import (
    LEVELS,
    Filters,
    Injection,
    Level,
    Metadata,
    ModelArmorConfig,
    RaiFilter,
    RaiSettings,
    Template,
    Uris,
)
from services.safety.config import ActionConfig, PolicyConfig, ProviderUse, SafetyConfig, SideConfig
from services.safety.verdict import Action, Confidence

PREFIX = "model-armor:"
_SHADOW = ":inspect"
_SDP = ("card", "iban", "us-ssn", "secret")
"""The rules and categories for CREDIT_CARD_NUMBER, FINANCIAL_ACCOUNT_NUMBER, US_SSN, and the credentials."""
_INJECTION = ("injection", "jailbreak")
_ASKED = "pi-and-jailbreak"
"""What the provider calls both."""
_LEVELS = {"LOW_AND_ABOVE": Confidence.LOW, "MEDIUM_AND_ABOVE": Confidence.MEDIUM, "HIGH": Confidence.HIGH}


class _Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: str
    user_prompt_template_id: str = ""
    model_response_template_id: str = ""
    request_template_id: str = ""
    """What the Agent Gateway calls the prompt's."""
    response_template_id: str = ""


def expand(config: SafetyConfig) -> SafetyConfig:
    """Return `config` with its `model_armor` section turned into policies; `models` and `default` go before it."""
    armor = config.model_armor
    if armor is None:
        return config
    policies, models = dict(config.policies), dict(config.models)
    for setting in _settings(armor):
        name = PREFIX + setting.model
        policies |= _policies(name, setting, armor)
        models.setdefault(setting.model, name)
    models.pop("default", None)
    default = PREFIX + "default"
    known = config.default in config.policies or default not in policies
    return msgspec.structs.replace(
        config, policies=policies, models=models, default=config.default if known else default
    )


def _settings(armor: ModelArmorConfig) -> list[_Setting]:
    try:
        return msgspec.json.decode(armor.settings, type=list[_Setting])
    except msgspec.DecodeError as error:
        raise ConfigError(f"model_armor.settings: {error}") from error


def _policies(name: str, setting: _Setting, armor: ModelArmorConfig) -> Mapping[str, PolicyConfig]:
    """Return the model's policy, and the shadow in which templates run that only inspect."""
    prompt = _side(setting.user_prompt_template_id or setting.request_template_id, armor, answers=False)
    answer = _side(setting.model_response_template_id or setting.response_template_id, armor, answers=True)
    shadow = name + _SHADOW if prompt.shadowed or answer.shadowed else ""
    found = {name: PolicyConfig(prompt=prompt.enforced, response=answer.enforced, shadow=shadow)}
    if shadow:
        found[shadow] = PolicyConfig(
            prompt=prompt.side if prompt.shadowed else SideConfig(),
            response=answer.side if answer.shadowed else SideConfig(),
        )
    return found


@dataclass(frozen=True, slots=True)
class _Side:
    side: SideConfig
    shadowed: bool

    @property
    def enforced(self) -> SideConfig:
        return SideConfig() if self.shadowed else self.side


def _side(name: str, armor: ModelArmorConfig, *, answers: bool) -> _Side:
    if not name:
        return _Side(SideConfig(), shadowed=False)
    template = armor.templates.get(name) or armor.templates.get(name.rpartition("/")[2])
    if template is None:
        raise ConfigError(f"model_armor.settings: template {name!r} is not in model_armor.templates")
    filters = template.filter_config
    if armor.floor is not None and armor.floor.enable_floor_setting_enforcement:
        filters = _at_least(filters, armor.floor.filter_config)
    needs = sorted(_beyond_rules(filters))
    if needs and not armor.provider:
        raise ConfigError(
            f"model_armor.provider: expected a provider: no rule does {', '.join(needs)} of template {name!r}"
        )
    # Rules see few injections: a provider that is there is asked about these too.
    asks = bool(needs) or (armor.provider != "" and _is_on(filters.pi_and_jailbreak_filter_settings))
    metadata = template.template_metadata
    side = SideConfig(
        actions=tuple(_actions(filters, asks=asks)),
        providers=(_use(armor.provider, template),) if asks else (),
        stream="window" if asks and answers else "exact",
        unscannable="allow",  # as the original, which passes what it cannot read
        error_type=armor.error_type,
        status=metadata.custom_llm_response_safety_error_code
        if answers
        else metadata.custom_prompt_safety_error_code,
        message=_message(metadata, answers=answers),
    )
    return _Side(side, shadowed=metadata.enforcement_type == "INSPECT_ONLY")


def _use(provider: str, template: Template) -> ProviderUse:
    if template.template_metadata.ignore_partial_invocation_failures:
        return ProviderUse(name=provider, on_state={"partial": "open"})
    return ProviderUse(name=provider)


def _message(metadata: Metadata, *, answers: bool) -> str:
    own = (
        metadata.custom_llm_response_safety_error_message
        if answers
        else metadata.custom_prompt_safety_error_message
    )
    escaped = own.replace("{", "{{").replace("}", "}}")
    return escaped or SideConfig().message


def _is_on(one: Injection | Uris | None) -> bool:
    return one is not None and one.filter_enforcement == "ENABLED"


def _actions(filters: Filters, *, asks: bool) -> Iterator[ActionConfig]:
    if _is_on(filters.sdp_settings.basic_config):
        yield ActionConfig(match=_SDP, action=Action.BLOCK)
    injection = filters.pi_and_jailbreak_filter_settings
    if _is_on(injection):
        level = _LEVELS[_level(injection.confidence_level)]
        names = (*_INJECTION, _ASKED) if asks else _INJECTION
        yield ActionConfig(match=names, action=Action.BLOCK, confidence=level)
    for one in filters.rai_settings.rai_filters:
        name = one.filter_type.lower().replace("_", "-")
        yield ActionConfig(
            match=(name,), action=Action.BLOCK, confidence=_LEVELS[_level(one.confidence_level)]
        )


def _beyond_rules(filters: Filters) -> Iterator[str]:
    if filters.rai_settings.rai_filters:
        yield "raiSettings"
    if _is_on(filters.malicious_uri_filter_settings):
        yield "maliciousUriFilterSettings"
    if filters.sdp_settings.advanced_config is not None:
        yield "sdpSettings.advancedConfig"


def _at_least(filters: Filters, floor: Filters) -> Filters:
    """Return `filters` made as strict as `floor` where they are laxer."""
    injection, lowest = filters.pi_and_jailbreak_filter_settings, floor.pi_and_jailbreak_filter_settings
    if _is_on(lowest):
        own = injection.confidence_level if _is_on(injection) else lowest.confidence_level
        level = _stricter(own, lowest.confidence_level)
        injection = msgspec.structs.replace(lowest, confidence_level=level)
    uris, sdp = filters.malicious_uri_filter_settings, filters.sdp_settings
    if _is_on(floor.malicious_uri_filter_settings):
        uris = floor.malicious_uri_filter_settings
    if _is_on(floor.sdp_settings.basic_config):
        sdp = msgspec.structs.replace(sdp, basic_config=floor.sdp_settings.basic_config)
    if sdp.advanced_config is None and floor.sdp_settings.advanced_config is not None:
        sdp = msgspec.structs.replace(sdp, advanced_config=floor.sdp_settings.advanced_config)
    return Filters(
        rai_settings=_rai(filters.rai_settings, floor.rai_settings),
        pi_and_jailbreak_filter_settings=injection,
        malicious_uri_filter_settings=uris,
        sdp_settings=sdp,
    )


def _rai(own: RaiSettings, floor: RaiSettings) -> RaiSettings:
    found = {one.filter_type: one for one in own.rai_filters}
    for one in floor.rai_filters:
        mine = found.get(one.filter_type, one)
        level = _stricter(mine.confidence_level, one.confidence_level)
        found[one.filter_type] = RaiFilter(filter_type=one.filter_type, confidence_level=level)
    return RaiSettings(rai_filters=tuple(found.values()))


def _level(level: Level) -> Level:
    return level if level in LEVELS else "LOW_AND_ABOVE"


def _stricter(one: Level, other: Level) -> Level:
    return min(_level(one), _level(other), key=LEVELS.index)
