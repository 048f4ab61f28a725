"""Prefill and decode on servers of their own."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Decider, Decision, Scheduler, Situation


class Profiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which profile chooses for which stage."""

    decode: str = "decode"
    prefill: str = "prefill"


class Deciders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The plugins that say whether a stage is run."""

    prefill: str = ""
    """Without one the decoding server always does the prefill too."""


@dataclass(frozen=True, slots=True)
class Disagg:
    """A server to decode, and perhaps one to prefill before it: the reference's `disagg-profile-handler`.

    The request goes to the decoding server with `x-prefiller-host-port`; its sidecar has the prompt's KV cache computed
    there first. The encode stage is not supported: a digest does not tell images from text.
    """

    profiles: Profiles = field(default_factory=Profiles)
    deciders: Deciders = field(default_factory=Deciders)

    def bind(self, profiles: Mapping[str, Scheduler], plugins: Mapping[str, object]) -> Scheduler:
        """Return the two stages, or the decode profile alone when no decider is named."""
        decode = _named(profiles, "decode", self.profiles.decode)
        if not self.deciders.prefill:
            return decode
        decider = plugins.get(self.deciders.prefill)
        if not isinstance(decider, Decider):
            raise ValueError(  # noqa: TRY004 - the file is wrong, not the program
                f"deciders.prefill: {self.deciders.prefill!r} is no decider under $.plugins"
            )
        return PrefillDecode(decode, _named(profiles, "prefill", self.profiles.prefill), decider)


@dataclass(frozen=True, slots=True)
class PrefillDecode:
    """Two stages."""

    decode: Scheduler
    prefill: Scheduler
    decider: Decider

    def run(self, situation: Situation, servers: Sequence[Server], rng: random.Random) -> Decision:
        """Choose who decodes, then who prefills for it; without one of these it does so itself."""
        decision = self.decode.run(situation, servers, rng)
        if not decision.servers or not self.decider.disaggregate(situation, decision.servers[0]):
            return decision
        first = decision.servers[0]
        prefill = self.prefill.run(replace(situation, peer=first), servers, rng)
        if not prefill.servers or prefill.servers[0] == first:
            return decision
        return replace(decision, prefill=prefill)

    def chosen(self, situation: Situation, decision: Decision) -> tuple[tuple[str, str], ...]:
        """Tell both."""
        headers = self.decode.chosen(situation, decision)
        return headers + self.prefill.chosen(situation, decision.prefill) if decision.prefill else headers


def _named(profiles: Mapping[str, Scheduler], stage: str, name: str) -> Scheduler:
    if name not in profiles:
        raise ValueError(f"profiles.{stage}: no profile {name!r} under $.schedulingProfiles")
    return profiles[name]
