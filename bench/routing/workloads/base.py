"""What a workload is, and the draws that several share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.routing.fleet import Fleet
from bench.routing.turns import Turn
from bench.routing.world import Arrival


@dataclass(frozen=True, slots=True)
class Planned:
    """A first turn and its time, for any load: `at` shrinks as the load grows, `after` stays."""

    at: float
    after: float
    turn: Turn


@dataclass(frozen=True, slots=True)
class Workload:
    """Who asks what, of which fleet."""

    name: str
    summary: str
    fleet: Fleet
    make: Callable[[random.Random, int], list[Planned]]
    """Draws so many requests, or some more, in any unit of time."""
    requests: int
    shares: bool = True
    """Whether prompts have anything in common: then affinity is worth something."""
    overload: float = 1.2
    """What "past saturation" means here, against what the oracle sustains."""

    def plan(self, seed: int, scale: float = 1.0) -> list[Planned]:
        """Return the requests at a mean rate of one per second; `scale` makes them more or fewer."""
        planned = self.make(random.Random(f"{self.name}/{seed}"), round(self.requests * scale))
        total = sum(1 for one in planned for _ in one.turn)
        unit = total / max(one.at for one in planned)
        return [Planned(one.at * unit, one.after, one.turn) for one in planned]


def arrivals(planned: Iterable[Planned], rate: float) -> list[Arrival]:
    """Return when the first turns come at `rate` requests per second, later turns included."""
    return sorted(((one.at / rate + one.after, one.turn) for one in planned), key=lambda arrival: arrival[0])


def poisson(rng: random.Random, groups: Sequence[Sequence[Turn]], spread: float = 0.002) -> list[Planned]:
    """Let groups come at random times, and those of one group `spread` seconds after each other."""
    now, planned = 0.0, []
    for group in groups:
        now += rng.expovariate(1.0)
        planned += [Planned(now, spread * k, turn) for k, turn in enumerate(group)]
    return planned


def lognormal(rng: random.Random, mean: float, sigma: float, least: int, most: int) -> int:
    """Draw a length whose distribution, before it is bounded, has `mean`."""
    return max(least, min(most, round(mean * rng.lognormvariate(-sigma * sigma / 2, sigma))))


def answer(rng: random.Random, mean: int) -> int:
    """Draw the length of a chat's answer."""
    return lognormal(rng, mean, 0.8, 4, 4 * mean)


def zipf(count: int, skew: float = 1.0) -> list[float]:
    """Return weights of `count` choices."""
    return [1 / rank**skew for rank in range(1, count + 1)]
