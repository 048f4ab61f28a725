"""Encoding of images, prefill and decode on servers of their own."""

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
    encode: str = "encode"


class Deciders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The plugins that say whether a stage is run; without one the decoding server always does that part too."""

    prefill: str = ""
    encode: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage before the decode."""

    profile: Scheduler
    decider: Decider

    def run(
        self, situation: Situation, servers: Sequence[Server], rng: random.Random, peer: Server
    ) -> Decision | None:
        """Choose who does it for `peer`, which will decode; None when that does so itself."""
        if not self.decider.disaggregate(situation, peer):
            return None
        decision = self.profile.run(replace(situation, peer=peer), servers, rng)
        return decision if decision.servers and decision.servers[0] != peer else None


@dataclass(frozen=True, slots=True)
class Disagg:
    """A server to decode, and perhaps others before it: the reference's `disagg-profile-handler`.

    The request goes to the decoding server with `x-prefiller-host-port` and `x-encoder-hosts-ports`; its sidecar has the
    images encoded and the prompt's KV cache computed there first.
    """

    profiles: Profiles = field(default_factory=Profiles)
    deciders: Deciders = field(default_factory=Deciders)

    def bind(self, profiles: Mapping[str, Scheduler], plugins: Mapping[str, object]) -> Scheduler:
        """Return the stages, or the decode profile alone when no decider is named."""
        decode = _named(profiles, "decode", self.profiles.decode)
        stages = [
            _stage(profiles, plugins, stage, getattr(self.profiles, stage), decider)
            for stage, decider in (("prefill", self.deciders.prefill), ("encode", self.deciders.encode))
        ]
        return Stages(decode, *stages) if any(stages) else decode


def pd_profile(
    decode_profile: str = "decode",
    prefill_profile: str = "prefill",
    decider_plugin_name: str = "prefix-based-pd-decider",
) -> Disagg:
    """Make the reference's `pd-profile-handler`, the older name and spelling of the two stages."""
    return Disagg(Profiles(decode_profile, prefill_profile), Deciders(decider_plugin_name))


@dataclass(frozen=True, slots=True)
class Stages:
    """The decode, and what may come before it."""

    decode: Scheduler
    prefill: Stage | None
    encode: Stage | None

    def run(self, situation: Situation, servers: Sequence[Server], rng: random.Random) -> Decision:
        """Choose who decodes, then who works for it; without one of these it does that part itself."""
        decision = self.decode.run(situation, servers, rng)
        if not decision.servers:
            return decision
        first = decision.servers[0]
        encode = self.encode.run(situation, servers, rng, first) if self.encode else None
        prefill = self.prefill.run(situation, servers, rng, first) if self.prefill else None
        return replace(decision, prefill=prefill, encode=encode, staged=True)

    def chosen(self, situation: Situation, decision: Decision) -> tuple[tuple[str, str], ...]:
        """Tell all that decided."""
        headers = self.decode.chosen(situation, decision)
        for stage, choice in ((self.prefill, decision.prefill), (self.encode, decision.encode)):
            if stage and choice:
                headers += stage.profile.chosen(situation, choice)
        return headers


def _stage(
    profiles: Mapping[str, Scheduler], plugins: Mapping[str, object], stage: str, profile: str, decider: str
) -> Stage | None:
    if not decider:
        return None
    found = plugins.get(decider)
    if not isinstance(found, Decider):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not the program
            f"deciders.{stage}: {decider!r} is no decider under $.plugins"
        )
    return Stage(_named(profiles, stage, profile), found)


def _named(profiles: Mapping[str, Scheduler], stage: str, name: str) -> Scheduler:
    if name not in profiles:
        raise ValueError(f"profiles.{stage}: no profile {name!r} under $.schedulingProfiles")
    return profiles[name]
