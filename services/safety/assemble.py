"""From configuration to policies that run. Unknown names are refused with their place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.extproc.config import ConfigError
from services.safety.armor import expand
from services.safety.audit_versions import Versions, versions
from services.safety.canonical.check import Canonical
from services.safety.checks.base import Check, PromptCheck
from services.safety.checks.contained import contained
from services.safety.checks.registry import CheckFactory
from services.safety.checks.rules import Rule, blocklist, built_in, load
from services.safety.checks.ruleset import RuleSet
from services.safety.checks.sieve import Engine, Re2Sieve
from services.safety.config import ActionConfig, PluginConfig, ProviderUse, SafetyConfig, SideConfig
from services.safety.policy import (
    Combine,
    Policies,
    Policy,
    Provider,
    Reaction,
    Redaction,
    Side,
    StreamMode,
)
from services.safety.screen import Screen
from services.safety.verdict import Action, Finding, State


@dataclass(frozen=True, slots=True)
class Assembled:
    """A configuration ready to run."""

    policies: Policies
    rules: tuple[str, ...]
    """The ids of all rules and checks there are, used or not: a closed set for metric labels."""
    versions: Versions
    """For the audit records."""


def assemble(
    config: SafetyConfig, check_types: Mapping[str, CheckFactory], provider_types: Collection[str]
) -> Assembled:
    """Compile `config`; raise `ConfigError` that says what is wrong where."""
    config = expand(config)
    rules = _rules(config)
    _names("models", config.models.values(), config.policies)
    _names("default", [config.default], config.policies)
    _names("consumers", config.consumers.values(), config.policies)
    for name, policy in config.policies.items():
        _names(f"policies.{name}.shadow", [policy.shadow] if policy.shadow else [], config.policies)
    if config.consumers and not config.consumer_header:
        raise ConfigError("consumer_header: expected the header that names the consumer")
    for name, plugin in config.providers.items():
        _names(f"providers.{name}.type", [plugin.type], provider_types)
    checks = {name: _check(name, plugin, check_types) for name, plugin in config.checks.items()}
    side = _SideBuilder(
        rules, checks, config.providers, key=config.audit_key.encode(), engine=_engine(config.engine)
    )
    policies = {
        name: Policy(
            name,
            side(f"policies.{name}.prompt", policy.prompt),
            side(f"policies.{name}.response", policy.response),
            policy.shadow,
        )
        for name, policy in config.policies.items()
    }
    who = Policies(policies, config.default, config.models, config.consumers, config.consumer_header.lower())
    names = (*(rule.id for rule in rules), *config.checks)
    return Assembled(who, names, versions(config, rules))


def _rules(config: SafetyConfig) -> tuple[Rule, ...]:
    rules = [*built_in(), *load(Path(name) for name in config.rules)]
    rules += [blocklist(name, words) for name, words in config.blocklists.items()]
    ids = [rule.id for rule in rules]
    if doubles := sorted({name for name in ids if ids.count(name) > 1}):
        raise ConfigError(f"rules: defined twice: {', '.join(doubles)}")
    return tuple(rules)


class _SideBuilder:
    def __init__(
        self,
        rules: Sequence[Rule],
        checks: Mapping[str, Check | PromptCheck],
        providers: Mapping[str, PluginConfig],
        *,
        key: bytes,
        engine: Engine,
    ) -> None:
        self._rules = rules
        self._engine = engine
        self._key = key
        self._checks = checks
        self._providers = providers
        self._known = {rule.id for rule in rules} | {rule.category for rule in rules}

    def __call__(self, place: str, config: SideConfig) -> Side:
        self._validate(place, config)
        actions = tuple(_reaction(entry) for entry in config.actions)
        enforced, watched = self._enforced(place, config, actions), self._watched(actions)
        mine = [contained(name, self._checks[name]) for name in config.checks]
        others = [Canonical(one) for one in mine if not isinstance(one, PromptCheck)]
        checks = (*self._rule_set(enforced), *others)
        return Side(
            actions=actions,
            checks=checks,
            watching=self._rule_set(watched),
            prompt_checks=tuple(one for one in mine if isinstance(one, PromptCheck)),
            screen=Screen(checks, (*self._rule_set([*enforced, *watched]), *others), key=self._key),
            providers=tuple(_use(use, config) for use in config.providers),
            combine=Combine(config.combine),
            threshold=config.threshold,
            deadline=config.deadline,
            fail_open=_fails_open(config),
            may_fail=frozenset(name for name in config.checks if _may_fail(name, config)),
            allow_unscannable=config.unscannable == "allow",
            drop_logprobs=config.logprobs == "drop",
            message=config.message,
            status=config.status,
            plain_text=config.error_type == "plain_text",
            mask=config.mask,
            hold_limit=config.hold_limit,
            at_limit=Action(config.at_limit),
            stream=StreamMode(config.stream),
            window=config.window,
            overlap=config.overlap,
        )

    def _validate(self, place: str, config: SideConfig) -> None:
        if not config.checks and not config.providers:  # they bring names that are not known here
            names = [name for entry in config.actions for name in entry.match]
            _names(f"{place}.actions", names, self._known)
        _names(f"{place}.checks", config.checks, self._checks)
        _names(f"{place}.providers", [use.name for use in config.providers], self._providers)
        if place.endswith(".response"):
            _response(place, config)
        elif any(isinstance(self._checks[name], PromptCheck) for name in config.checks):
            raise ConfigError(
                f"{place}.checks: a check that compares answers with their prompts is for answers"
            )
        _template(f"{place}.message", config.message, "category")
        _template(f"{place}.mask", config.mask, "rule")

    def _enforced(self, place: str, config: SideConfig, actions: Sequence[Reaction]) -> list[Rule]:
        rules = [rule for rule in self._rules if _meant(rule, actions) & {Action.REDACT, Action.BLOCK}]
        long = max((rule.max_length or 0 for rule in rules), default=0)
        if long > config.hold_limit:
            raise ConfigError(f"{place}.hold_limit: expected at least {long}, the longest match of its rules")
        return rules

    def _rule_set(self, rules: Sequence[Rule]) -> tuple[Check, ...]:
        return (Canonical(RuleSet(rules, engine=self._engine)),) if rules else ()

    def _watched(self, actions: Sequence[Reaction]) -> list[Rule]:
        return [rule for rule in self._rules if _meant(rule, actions) - {Action.ALLOW} == {Action.INSPECT}]


def _engine(name: str) -> Engine:
    if name == "re2":
        return Re2Sieve
    try:
        from services.safety.checks.sieve_hyperscan import Hyperscan  # noqa: PLC0415 - an extra, not always installed
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"engine: {name} is not installed: pip install 'inference-gateway[{name}]', or say engine: re2"
        ) from error
    return Hyperscan()


def _fails_open(config: SideConfig) -> bool:
    """Whether nothing that is enforced must have been judged."""
    enforced = [entry for entry in config.actions if entry.action in {Action.REDACT, Action.BLOCK}]
    rest = not enforced or config.checks or config.providers  # what follows the side's own `on_error`
    modes = {entry.on_error or config.on_error for entry in enforced} | ({config.on_error} if rest else set())
    return modes == {"open"}


def _may_fail(check: str, config: SideConfig) -> bool:
    own = next((entry.on_error for entry in config.actions if check in entry.match), None)
    return (own or config.on_error) == "open"


def _reaction(entry: ActionConfig) -> Reaction:
    return Reaction(
        frozenset(entry.match),
        entry.action,
        frozenset(entry.roles),
        entry.confidence,
        Redaction(entry.redact_with),
    )


def _response(place: str, config: SideConfig) -> None:
    if config.providers and config.stream == "exact":
        raise ConfigError(
            f"{place}.stream: expected window or audit: providers cannot judge a stream byte by byte"
        )
    if 2 * config.overlap > config.window:
        raise ConfigError(f"{place}.overlap: expected at most half of the window, {config.window // 2}")
    if any(entry.redact_with == "placeholder" for entry in config.actions):
        raise ConfigError(f"{place}.actions: a placeholder stands in prompts; expected mask or hash")


def _use(use: ProviderUse, side: SideConfig) -> Provider:
    states = {state.value: side.on_error for state in State if state is not State.JUDGED} | use.on_state
    return Provider(
        use.name,
        use.timeout,
        use.weight,
        frozenset(State(name) for name, then in states.items() if then == "open"),
    )


def _meant(rule: Rule, actions: Sequence[Reaction]) -> set[Action]:
    """Return what the policy does about the rule's findings, in texts of any role."""
    found: set[Action] = set()
    probe = Finding(rule.id, 0, 0, rule.category, rule.confidence)
    for reaction in actions:
        if reaction.fits(probe, next(iter(reaction.roles), "")):
            found.add(reaction.action)
            if not reaction.roles:
                break
    return found


def _check(name: str, plugin: PluginConfig, factories: Mapping[str, CheckFactory]) -> Check | PromptCheck:
    _names(f"checks.{name}.type", [plugin.type], factories)
    try:
        return factories[plugin.type](plugin.parameters)
    except ValueError as error:
        raise ConfigError(f"checks.{name}.parameters: {error}") from error


def _names(place: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{place}: {name!r} is not known, expected one of {', '.join(sorted(known))}")


def _template(place: str, text: str, name: str) -> None:
    try:
        text.format(**{name: "x"})
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(f"{place}: expected text with {{{name}}} at most, got {text!r}") from error
