"""Who may ask for which model. Pure. Lists hold the names that clients ask for, aliases among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Names:
    """A set of names: those on `allow` (None: all) that are not on `deny`. `llama-*` stands for all that begin so."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return (self.allow is None or _listed(name, self.allow)) and not _listed(name, self.deny)


EVERYTHING = Names()
NOTHING = Names(allow=())


@dataclass(frozen=True, slots=True)
class Access:
    """Everybody's lists, and those of each consumer on top."""

    everyone: Names = EVERYTHING
    consumer_header: str = ""
    """Set by an authenticating proxy in front of the gateway. Empty: consumers are not told apart."""
    consumers: Mapping[str, Names] = field(default_factory=dict)
    unknown: Names = EVERYTHING
    """For requests without the header, with a repeated one, or with a consumer that is not listed."""
    forbids: bool = False
    """A refusal is a 403 that says so, not the 404 of a model that does not exist."""

    def group(self, consumers: tuple[str, ...]) -> str:
        """Return the listed consumer that the header's values name, or the empty string. Closed, fit for a cache."""
        return consumers[0] if len(consumers) == 1 and consumers[0] in self.consumers else ""

    def permits(self, group: str, name: str) -> bool:
        """Say whether `group` (of `group()`) may ask for `name`."""
        return name in self.everyone and name in self.consumers.get(group, self.unknown)


def _listed(name: str, patterns: tuple[str, ...]) -> bool:
    return any(
        name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])) for pattern in patterns
    )
