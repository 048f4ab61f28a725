"""The request names its profile."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Decision, Scheduler, Situation
from services.extproc.errors import BadRequest


@dataclass(frozen=True, slots=True)
class HeaderProfile:
    """The profile that a header names, else a default one: the reference's `header-profile-handler`."""

    header_name: str = "EPP-Profile"
    default_profile: str = "decode"
    """For requests without the header. With a single profile that one, whatever its name."""

    def bind(self, profiles: Mapping[str, Scheduler], plugins: Mapping[str, object]) -> Scheduler:  # noqa: ARG002
        """Return the choice between `profiles`."""
        if len(profiles) == 1:
            return next(iter(profiles.values()))
        if self.default_profile not in profiles:
            raise ValueError(
                f"defaultProfile: no profile {self.default_profile!r}, only {', '.join(profiles)}"
            )
        return ByHeader(self.header_name.lower(), self.default_profile, profiles)


@dataclass(frozen=True, slots=True)
class ByHeader:
    """A choice between profiles."""

    header: str
    default: str
    profiles: Mapping[str, Scheduler]

    def run(self, situation: Situation, servers: Sequence[Server], rng: random.Random) -> Decision:
        """Let the named profile decide; a name that does not exist is the client's mistake."""
        name = (situation.headers.get(self.header) or "").strip() or self.default
        if name not in self.profiles:
            raise BadRequest(
                f"the header {self.header} names no scheduling profile: {name!r}",
                reason="no_profile",
                param=self.header,
            )
        return self.profiles[name].run(situation, servers, rng)

    def chosen(self, situation: Situation, decision: Decision) -> tuple[tuple[str, str], ...]:
        """Tell the profile that decided."""
        return self.profiles[decision.profile].chosen(situation, decision)
