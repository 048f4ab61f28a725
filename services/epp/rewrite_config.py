"""`rewrites` of the picker's file: the spec of InferenceModelRewrite, in its own spelling, and the rules that it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.epp.reference_config import Name
from services.extproc.config import ConfigError
from services.openai.rewrites import MAX_WEIGHT, Rewrite, Table, Target


class ModelMatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's name."""

    value: Name
    type: Literal["Exact"] = "Exact"


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request must ask for."""

    model: ModelMatch


class TargetSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What the server is asked for instead, and its share of the requests."""

    model_rewrite: Name
    weight: Annotated[int, Meta(ge=1, le=MAX_WEIGHT)] = 1


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names and what they become. Without matches the rule is generic: it takes what no exact one takes."""

    targets: Annotated[list[TargetSpec], Meta(min_length=1)]
    matches: list[Match] = []


class RewriteSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules under one name, which metrics show."""

    name: Name
    rules: Annotated[list[Rule], Meta(min_length=1)]
    pool: str = ""
    """The only pool in which they count; empty: in all."""
    sticky: str = ""
    """`user`, `session` or `header:NAME`: equal values get the same target. Empty: chance."""


def tables(specs: Sequence[RewriteSpec], pools: Sequence[str]) -> Mapping[str, Table]:
    """Return each pool's rules; raise `ConfigError` for one that cannot be."""
    names = [spec.name for spec in specs]
    for index, spec in enumerate(specs):
        path = f"$.rewrites[{index}]"
        if names.index(spec.name) != index:
            raise ConfigError(f"{path}.name: {spec.name!r} is there twice")
        if spec.pool and spec.pool not in pools:
            raise ConfigError(f"{path}.pool: no pool {spec.pool!r}, only {', '.join(pools)}")
        for number, rewrite in enumerate(_rewrites(spec)):
            if fault := rewrite.fault:
                raise ConfigError(f"{path}.rules[{number}]: {spec.name!r} {fault}")
    return {
        pool: Table([rewrite for spec in specs if spec.pool in {"", pool} for rewrite in _rewrites(spec)])
        for pool in pools
    }


def _rewrites(spec: RewriteSpec) -> Iterator[Rewrite]:
    for rule in spec.rules:
        yield Rewrite(
            name=spec.name,
            targets=tuple(Target(target.model_rewrite, target.weight) for target in rule.targets),
            matches=tuple(match.model.value for match in rule.matches),
            sticky=spec.sticky.lower(),
        )
