"""Rewrites: one name asked for, one of several weighted targets asked of the server. Pure."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import xxhash

MAX_WEIGHT = 1_000_000
"""As InferenceModelRewrite bounds it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A model or adapter, and its share of the requests."""

    model: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Which names are replaced, and by what."""

    name: str
    targets: tuple[Target, ...]
    matches: tuple[str, ...] = ()
    """The exact names; none makes the rewrite generic: it takes every name that no exact one and no alias takes."""
    only_unknown: bool = False
    """A generic rewrite leaves models and adapters alone."""
    sticky: str = ""
    """What the choice of a target is bound to: `user`, `session` or `header:NAME`. Empty: every request by chance."""

    def pick(self, key: str, chance: random.Random) -> str:
        """Return the target for the sticky `key`; without one, chance decides."""
        if len(self.targets) == 1:
            return self.targets[0].model
        if key:
            return max(self.targets, key=lambda target: self._score(target, key)).model
        return chance.choices(self.targets, [target.weight for target in self.targets])[0].model

    def _score(self, target: Target, key: str) -> float:
        """Weighted rendezvous hashing (Schindelhauer and Schomaker 2005): the highest of weight / -ln(hash) wins.

        Each pair of key and target has a hash of its own, so the order of targets does not matter, and a changed
        weight or a new target moves no key between the others.
        """
        number = xxhash.xxh3_64_intdigest(
            f"{self.name}\0{target.model}\0{key}".encode(errors="surrogateescape")
        )
        return target.weight / -math.log((number + 0.5) / 2**64)
