"""Which model a request is for, and what the model server is asked for: pure, and blind to HTTP and files."""

from __future__ import annotations

import enum
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.bbr.access import Access
from services.bbr.sources import BODY, PATH, is_source
from services.openai.rewrites import Rewrite, Table, Target, is_name

ALIAS = "alias"
"""The rule that a resolution by an alias names."""


class UnknownModels(enum.StrEnum):
    """What happens to a request for a model that no rule names."""

    REJECT = "reject"
    """It is answered with 404."""
    FORWARD = "forward"
    """It is routed by the name it came with, taken as its own base model; for gateways whose routes know more."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model with weights of its own, and the LoRA adapters that are served on it."""

    name: str
    adapters: tuple[str, ...] = ()
    owned_by: str = ""
    created: int = 0
    """Unix seconds; 0 when unknown."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """The way of one model name."""

    target: str
    """What the model server is asked for: a base model or an adapter."""
    base: str
    """The base model that routes match."""
    rewritten: bool = False
    """`target` is not the name that the client asked for."""
    rule: str = ""
    """The rewrite that chose the target, or `ALIAS`; empty where the name stands for itself."""


class RuleError(ValueError):
    """The rules contradict each other."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Every name that can be asked for, and by whom. Other rules are another object."""

    models: tuple[BaseModel, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Another name → the base model or adapter that it stands for."""
    unknown: UnknownModels = UnknownModels.REJECT
    rewrites: tuple[Rewrite, ...] = ()
    """An exact rewrite comes before an alias, an alias before a generic one; among equals the first counts."""
    default_model: str = ""
    """What a request asks for that names no model. Empty: it is refused."""
    sources: tuple[str, ...] = (BODY, PATH)
    """Where a request names its model; the first that does counts."""
    access: Access = field(default_factory=Access)
    answers_named_as_asked: bool = True
    """After a rewrite the answer carries the client's name for the model."""
    ways: Mapping[str, Resolution] = field(init=False)
    """Every name there is → its way; a name with several targets stands with the one of most weight."""
    _own: Mapping[str, str] = field(init=False)
    """Models and adapters → their base model."""
    _table: Table = field(init=False)

    def __post_init__(self) -> None:
        own = dict(self._served())
        table = Table(self.rewrites)
        _check_names([name for name, _ in self._served()] + list(self.aliases))
        self._check_targets(own)
        self._set("_own", own)
        self._set("_table", table)
        self._set("ways", {name: self._listed(name) for name in (*own, *self.aliases, *table.exact)})
        self._check_rest()

    def resolve(self, model: str, key: Callable[[str], str], chance: random.Random) -> Resolution | None:
        """Return the way of `model`, or None when nothing knows it.

        `key` gives the request's value of a rewrite's `sticky`, empty without one; then `chance` picks the target.
        """
        rewrite = self._rewrite(model)
        if rewrite is not None:
            return self._to(rewrite.pick(key(rewrite.sticky), chance), model, rewrite.name)
        if (way := self.ways.get(model)) is not None:
            return way
        return Resolution(model, model) if self._forwards(model) else None

    def base(self, model: str) -> str:
        """Return the base model of `model`; of a name that no rule knows, itself."""
        return self._own.get(model, model)

    def _forwards(self, model: str) -> bool:
        return self.unknown is UnknownModels.FORWARD and is_name(model)

    def _rewrite(self, model: str) -> Rewrite | None:
        if (rewrite := self._table.exact.get(model)) is not None:
            return rewrite
        if model in self.aliases:
            return None
        known = model in self._own
        return self._table.generic(known=known) if known or is_name(model) else None

    def _to(self, target: str, asked: str, rule: str) -> Resolution:
        return Resolution(target, self.base(target), rewritten=target != asked, rule=rule)

    def _listed(self, name: str) -> Resolution:
        if name in self._own:
            return Resolution(name, self._own[name])
        if (rewrite := self._table.exact.get(name)) is not None:
            return self._to(max(rewrite.targets, key=_weight).model, name, rewrite.name)
        return self._to(self.aliases[name], name, ALIAS)

    def _served(self) -> Iterator[tuple[str, str]]:
        for model in self.models:
            yield model.name, model.name
            for adapter in model.adapters:
                yield adapter, model.name

    def _check_targets(self, own: Mapping[str, str]) -> None:
        if stray := sorted(set(self.aliases.values()) - own.keys()):
            raise RuleError(f"aliases stand for what is no model or adapter: {', '.join(stray)}")
        names = [rewrite.name for rewrite in self.rewrites]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise RuleError(f"two rewrites have the same name: {', '.join(twice)}")
        for rewrite in self.rewrites:
            _check_rewrite(rewrite, own, strict=self.unknown is UnknownModels.REJECT)

    def _check_rest(self) -> None:
        default = self.default_model
        if default and not (self._rewrite(default) or default in self.ways or self._forwards(default)):
            raise RuleError(f"the default model {default!r} is no name that can be asked for")
        if wrong := [source for source in self.sources if not is_source(source)]:
            raise RuleError(f"{wrong[0]!r} is no source of a model: expected body, path or header:NAME")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


class RuleSource(Protocol):
    """Where rules come from: a file, a cluster's API, another service."""

    def current(self) -> Rules:
        """Return the rules of this moment, at once. Called for every request; the same object while nothing changes."""


@dataclass(frozen=True, slots=True)
class FixedRules:
    """Rules that stay as they were at start."""

    rules: Rules

    def current(self) -> Rules:
        """Return the rules."""
        return self.rules


def _weight(target: Target) -> int:
    return target.weight


def _check_rewrite(rewrite: Rewrite, own: Mapping[str, str], *, strict: bool) -> None:
    where = f"the rewrite {rewrite.name!r}"
    if fault := rewrite.fault:
        raise RuleError(f"{where} {fault}")
    for target in rewrite.targets:
        if not (target.model in own or not strict):
            raise RuleError(f"{where} leads to what is no model or adapter: {target.model}")


def _check_names(names: list[str]) -> None:
    if bad := [name for name in names if not is_name(name)]:
        raise RuleError(f"{bad[0]!r} is no model name: expected printable text without space around it")
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise RuleError(f"a name stands for one model, but is given more than once: {', '.join(twice)}")
