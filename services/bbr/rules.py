"""Which model a request is for, and what the model server is asked for: pure, and blind to HTTP and files."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


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
    """`target` is not the name that the client wrote."""


class RuleError(ValueError):
    """The rules contradict each other."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Every name that can be asked for. Other rules are another object."""

    models: tuple[BaseModel, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Another name → the base model or adapter that it stands for."""
    unknown: UnknownModels = UnknownModels.REJECT
    ways: Mapping[str, Resolution] = field(init=False)
    """Every name there is → its way."""

    def __post_init__(self) -> None:
        own = {name: Resolution(name, base) for name, base in self._served()}
        _check_names([name for name, _ in self._served()] + list(self.aliases))
        if stray := sorted(set(self.aliases.values()) - set(own)):
            raise RuleError(f"aliases stand for what is no model or adapter: {', '.join(stray)}")
        renamed = {
            alias: Resolution(target, own[target].base, rewritten=True)
            for alias, target in self.aliases.items()
        }
        object.__setattr__(self, "ways", own | renamed)

    def resolve(self, model: str) -> Resolution | None:
        """Return the way of `model`, or None when nothing knows it."""
        if (way := self.ways.get(model)) is not None:
            return way
        return Resolution(model, model) if self.unknown is UnknownModels.FORWARD and _is_name(model) else None

    def _served(self) -> Iterator[tuple[str, str]]:
        for model in self.models:
            yield model.name, model.name
            for adapter in model.adapters:
                yield adapter, model.name


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


def _check_names(names: list[str]) -> None:
    if bad := [name for name in names if not _is_name(name)]:
        raise RuleError(f"{bad[0]!r} is no model name: expected printable text without space around it")
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise RuleError(f"a name stands for one model, but is given more than once: {', '.join(twice)}")


def _is_name(name: str) -> bool:
    """Routes match the name as a header value, so it must be fit for one."""
    return bool(name) and name.isprintable() and name == name.strip()
