"""Rewrites of models where no router in front did them: which model a request goes to in place of the one it asks for.

As InferenceModelRewrite has it: exact matches come before a generic rule, then the order of the file counts. The header
counts only where no rule matches. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.openai.rewrites import Table, is_name

HEADERS = ("x-gateway-model-name-rewrite", "x-llm-d-model-name-rewrite")


@dataclass(frozen=True, slots=True)
class Renaming:
    """One request's model: what it asked for and what its server is asked for."""

    asked: str
    target: str
    rule: str = ""
    """The rewrite that chose the target; empty when the header did."""


@dataclass(slots=True)
class Rewriter:
    """The rules in force, by pool. `chance` splits what is not sticky."""

    chance: random.Random
    tables: Mapping[str, Table] = field(default_factory=dict)

    def covers(self, pool: str) -> bool:
        """Say whether any rule counts in `pool`."""
        return bool(self.tables.get(pool))

    def renamed(self, pool: str, asked: str, header: str, key: Callable[[str], str]) -> Renaming | None:
        """Return what becomes of the model `asked`; None where nothing says anything about it.

        `header` is the target that the request names itself, `key` its value of a rule's sticky key.
        """
        table = self.tables.get(pool)
        rule = table.find(asked) if table is not None else None
        if rule is not None:
            return Renaming(asked, rule.pick(key(rule.sticky), self.chance), rule.name)
        return Renaming(asked, header) if is_name(header) else None
