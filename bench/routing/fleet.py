"""Fleets of modelled servers, what may happen to them, and what their users expect."""

from __future__ import annotations

from dataclasses import dataclass

from tools.model_server.constants import LLAMA_8B_H100, LLAMA_8B_NIM, LLAMA_70B_NIM, Profile


@dataclass(frozen=True, slots=True)
class Slo:
    """What a request's user expects, in seconds; the prompt's own length counts, an answer's does not."""

    first_token: float
    """Until the first token, on top of twice the time to compute the whole prompt."""
    per_token: float
    """Mean from token to token."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A server that loses all it has. Times are shares of the time in which requests arrive."""

    server: int
    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """Servers of one profile."""

    profile: Profile
    servers: int
    slo: Slo
    speeds: tuple[tuple[int, float], ...] = ()
    """Servers that are not as fast as the others, with their speed."""
    outage: Outage | None = None

    @property
    def profiles(self) -> list[Profile]:
        """One for each server."""
        speeds = dict(self.speeds)
        return [self.profile.scaled(speeds[n]) if n in speeds else self.profile for n in range(self.servers)]


CHAT_8B = Fleet(LLAMA_8B_H100, 6, Slo(0.5, 0.05))
"""The rates of SMG's mock worker, with an H100's cost of reading the context."""
FAST_8B = Fleet(LLAMA_8B_NIM, 6, Slo(0.5, 0.05))
"""An 8B model on one H100 each, as fast as NVIDIA publishes."""
LARGE_70B = Fleet(LLAMA_70B_NIM, 4, Slo(1.0, 0.1))
"""A 70B model on two H100 each, as fast as NVIDIA publishes."""
