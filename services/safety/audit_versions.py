"""What a record was judged by: a version for each rule and a digest for each policy. Pure.

Both are hashes of their definitions, so they change when the meaning does, and two places agree without a registry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from services.safety.checks.rules import Rule
from services.safety.config import SafetyConfig

_HEX = 12  # characters; forty-eight bits tell a few hundred rules apart


@dataclass(frozen=True, slots=True)
class Versions:
    """Of one configuration."""

    rules: Mapping[str, str] = field(default_factory=dict)
    """Rule id → version."""
    policies: Mapping[str, str] = field(default_factory=dict)
    """Policy → digest over its own text and the versions of all rules."""


def versions(config: SafetyConfig, rules: Sequence[Rule]) -> Versions:
    """Return the versions of `config`, which runs with `rules`."""
    by_rule = {rule.id: _digest(rule) for rule in rules}
    beside = [by_rule, config.checks, config.providers]
    by_policy = {name: _digest([policy, beside]) for name, policy in config.policies.items()}
    return Versions(by_rule, by_policy)


def _digest(definition: object) -> str:
    encoded = msgspec.json.encode(definition, order="deterministic")
    return hashlib.blake2b(encoded).hexdigest()[:_HEX]
