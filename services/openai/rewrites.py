"""Rewrites: one name asked for, one of several weighted targets asked of the server. Pure, and blind to HTTP and files."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import xxhash

MAX_WEIGHT = 1_000_000
"""As InferenceModelRewrite bounds it."""

USER, SESSION = "user", "session"
"""Sticky keys: the end user that the body names, and a session. The third kind is `header:NAME`."""

SESSION_HEADERS = (
    "x-session-id",
    "x-session-token",
    "session-id",
    "x-claude-code-session-id",
    "x-session-affinity",
)
"""Names that clients and agents use for a session; the first that is there counts."""

HEADER = "header:"
_HEADER = re.compile(r"header:[a-z0-9!#$%&'*+.^_`|~-]+")


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

    @property
    def fault(self) -> str:
        """What makes this rewrite impossible, after its name; empty when nothing does."""
        if not self.targets:
            return "has no target"
        for target in self.targets:
            if not is_name(target.model):
                return f"leads to what is no model or adapter: {target.model!r}"
            if not 1 <= target.weight <= MAX_WEIGHT:
                return f"has a weight of {target.weight}: expected 1 to {MAX_WEIGHT}"
        if bad := [name for name in self.matches if not is_name(name)]:
            return f"matches {bad[0]!r}, which is no model name"
        if self.only_unknown and self.matches:
            return "has `matches` and `only_unknown`: the latter is for a generic rewrite"
        if self.sticky and not is_sticky(self.sticky):
            return f"is sticky by {self.sticky!r}: expected user, session or header:NAME"
        return ""

    def _score(self, target: Target, key: str) -> float:
        """Weighted rendezvous hashing (Schindelhauer and Schomaker 2005): the highest of weight / -ln(hash) wins.

        Each pair of key and target has a hash of its own, so the order of targets does not matter, and a changed
        weight or a new target moves no key between the others.
        """
        number = xxhash.xxh3_64_intdigest(
            f"{self.name}\0{target.model}\0{key}".encode(errors="surrogateescape")
        )
        return target.weight / -math.log((number + 0.5) / 2**64)


class Table:
    """Rewrites by what they match: an exact one comes before a generic one, and among equals the first counts."""

    def __init__(self, rewrites: Sequence[Rewrite] = ()) -> None:
        generic = [rewrite for rewrite in rewrites if not rewrite.matches]
        self.exact = {match: rewrite for rewrite in reversed(rewrites) for match in rewrite.matches}
        self._of_known = next((rewrite for rewrite in generic if not rewrite.only_unknown), None)
        self._of_unknown = next(iter(generic), None)

    def __bool__(self) -> bool:
        return bool(self.exact) or self._of_unknown is not None

    def generic(self, *, known: bool) -> Rewrite | None:
        """Return what takes a name that no exact rewrite takes; `known`: a model or adapter has that name."""
        return self._of_known if known else self._of_unknown

    def find(self, model: str) -> Rewrite | None:
        """Return what takes `model`, where nobody says which models there are."""
        return self.exact.get(model) or self._of_unknown


def is_name(name: str) -> bool:
    """Say whether `name` can be a model's: routes match it as a header value, so it must be fit for one."""
    return bool(name) and name.isprintable() and name == name.strip()


def is_sticky(text: str) -> bool:
    """Say whether `text` names a sticky key."""
    return text in {USER, SESSION} or _HEADER.fullmatch(text) is not None


def sticky_key(header: Callable[[str], str | None], user: str) -> Callable[[str], str]:
    """Return what gives a request's value of a sticky key; `user` is the one that its body names."""

    def key(kind: str) -> str:
        if kind == USER:
            return user
        if kind == SESSION:
            return next(filter(None, map(header, SESSION_HEADERS)), "")
        return (header(kind.removeprefix(HEADER)) or "").strip() if kind else ""

    return key
