"""What an operator can say about safety, and how it becomes policies. Unknown names are refused with their place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from services.safety.checks.base import Check
from services.safety.checks.registry import CheckFactory
from services.safety.checks.rules import Rule, RuleSet, blocklist, built_in, load
from services.safety.policy import Policies, Policy, Provider, Side
from services.safety.verdict import Action


class ConfigError(ValueError):
    """The configuration cannot be used; the message says where and what was expected."""


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Strict and immutable."""


class ActionConfig(Struct):
    """What to do about findings of some rules."""

    match: tuple[str, ...]
    """Rule ids, blocklist names or categories."""
    action: Action


class ProviderUse(Struct):
    """A provider on one side of a policy."""

    name: str
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 2.0
    """Seconds."""


class SideConfig(Struct):
    """One direction of a policy. Without actions, checks and providers nothing is looked at."""

    actions: tuple[ActionConfig, ...] = ()
    """The first entry that fits a finding decides; rules that fit none are not run."""
    checks: tuple[str, ...] = ()
    """Checks from the `checks` section; their findings are matched by `actions` too."""
    providers: tuple[ProviderUse, ...] = ()
    on_error: Literal["closed", "open"] = "closed"
    unscannable: Literal["block", "allow"] = "block"
    logprobs: Literal["drop", "keep"] = "drop"
    message: str = "Blocked by the content policy: {category}."
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 403
    mask: str = "[REDACTED:{rule}]"
    hold_limit: Annotated[int, msgspec.Meta(ge=256, le=1048576)] = 8192
    at_limit: Literal["redact", "block"] = "redact"


class PolicyConfig(Struct):
    """One named policy."""

    prompt: SideConfig = SideConfig()
    response: SideConfig = SideConfig()


class PluginConfig(Struct):
    """A check or provider that another package registers: its type, and parameters it checks itself."""

    type: str
    parameters: dict[str, str | int | float | bool] = {}


class SafetyConfig(Struct):
    """The part of config/safety.yaml that is about safety."""

    policies: dict[str, PolicyConfig]
    default: str = "default"
    """The policy of models that `models` does not name."""
    models: dict[str, str] = {}
    """Model → policy."""
    rules: tuple[str, ...] = ()
    """Further rule files, relative to the working directory."""
    blocklists: dict[str, tuple[str, ...]] = {}
    checks: dict[str, PluginConfig] = {}
    providers: dict[str, PluginConfig] = {}
    audit_key: str = ""
    """Keys the hash of judged texts in the audit record; empty draws one at start, so hashes end with the process."""


def build(config: SafetyConfig, factories: Mapping[str, CheckFactory]) -> Policies:
    """Return the policies of `config`; raise `ConfigError`, or `RuleError` for a rule that cannot be compiled."""
    rules = (*built_in(), *load(Path(name) for name in config.rules))
    rules += tuple(blocklist(name, words) for name, words in config.blocklists.items())
    ids = [rule.id for rule in rules]
    if doubles := {name for name in ids if ids.count(name) > 1}:
        raise ConfigError(f"rules: defined twice: {', '.join(sorted(doubles))}")
    _names("models", config.models.values(), config.policies)
    _names("default", [config.default], config.policies)
    checks = {name: _check(name, plugin, factories) for name, plugin in config.checks.items()}
    build_side = _SideBuilder(rules, checks, config.providers)
    policies = {
        name: Policy(
            name,
            build_side(f"policies.{name}.prompt", policy.prompt),
            build_side(f"policies.{name}.response", policy.response),
        )
        for name, policy in config.policies.items()
    }
    return Policies(policies, config.default, config.models)


class _SideBuilder:
    def __init__(
        self, rules: Sequence[Rule], checks: Mapping[str, Check], providers: Mapping[str, PluginConfig]
    ) -> None:
        self._rules = rules
        self._checks = checks
        self._providers = providers
        self._known = {rule.id for rule in rules} | {rule.category for rule in rules}

    def __call__(self, place: str, config: SideConfig) -> Side:
        names = [name for entry in config.actions for name in entry.match]
        if not config.checks:  # a third party's check brings names that are not known here
            _names(f"{place}.actions", names, self._known)
        _names(f"{place}.checks", config.checks, self._checks)
        _names(f"{place}.providers", [use.name for use in config.providers], self._providers)
        if config.providers and place.endswith(".response"):
            raise ConfigError(f"{place}.providers: remote judges look at prompts only, for now; expected none")
        _template(f"{place}.message", config.message, "category")
        _template(f"{place}.mask", config.mask, "rule")
        actions = tuple((name, entry.action) for entry in config.actions for name in entry.match)
        return Side(
            actions=actions,
            checks=(*self._rule_set(place, config, actions), *(self._checks[name] for name in config.checks)),
            watching=self._watching(actions),
            providers=tuple(Provider(use.name, use.timeout) for use in config.providers),
            fail_open=config.on_error == "open",
            allow_unscannable=config.unscannable == "allow",
            drop_logprobs=config.logprobs == "drop",
            message=config.message,
            status=config.status,
            mask=config.mask,
            hold_limit=config.hold_limit,
            at_limit=Action(config.at_limit),
        )

    def _rule_set(
        self, place: str, config: SideConfig, actions: Sequence[tuple[str, Action]]
    ) -> tuple[RuleSet, ...]:
        rules = [rule for rule in self._rules if _decide(rule, actions) in {Action.REDACT, Action.BLOCK}]
        long = max((rule.max_length or 0 for rule in rules), default=0)
        if long > config.hold_limit:
            raise ConfigError(f"{place}.hold_limit: expected at least {long}, the longest match of its rules")
        return (RuleSet(rules),) if rules else ()

    def _watching(self, actions: Sequence[tuple[str, Action]]) -> tuple[RuleSet, ...]:
        rules = [rule for rule in self._rules if _decide(rule, actions) is Action.INSPECT]
        return (RuleSet(rules),) if rules else ()


def _decide(rule: Rule, actions: Sequence[tuple[str, Action]]) -> Action:
    return next((action for name, action in actions if name in {rule.id, rule.category}), Action.ALLOW)


def _check(name: str, plugin: PluginConfig, factories: Mapping[str, CheckFactory]) -> Check:
    _names(f"checks.{name}.type", [plugin.type], factories)
    return factories[plugin.type](plugin.parameters)


def _names(place: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{place}: {name!r} is not known, expected one of {', '.join(sorted(known))}")


def _template(place: str, text: str, name: str) -> None:
    try:
        text.format(**{name: "x"})
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(f"{place}: expected text with {{{name}}} at most, got {text!r}") from error
