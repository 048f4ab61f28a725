"""What a policy gets and gives. Each of them knows what its kind knows in production, and no more."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bench.routing.turns import Turn
from services.epp.endpoints import Metrics
from tools.model_server.engine import Engine


class Shed(Exception):
    """The policy refuses the request."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a request goes."""

    servers: tuple[int, ...]
    """To be tried in this order."""
    id: str = ""
    """The policy's own name for its decision."""


@dataclass(frozen=True, slots=True)
class End:
    """How one attempt ended. Times in seconds."""

    seconds: float
    first_token: float
    output_tokens: int
    failed: bool = False
    """The server died."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around a policy."""

    clock: Callable[[], float]
    rng: random.Random
    engines: Sequence[Engine]
    """The servers' true state: for the oracle, and for what a server would tell of itself as it happens."""
    future: Sequence[Turn] = ()
    """The first turns of all sessions that will come: for the oracle alone."""


class Policy:
    """One way to choose."""

    scrape_every: ClassVar[float] = 0.2
    """Seconds from one look at a server's metrics to the next."""
    knows_end_after: ClassVar[float] = 0.0
    """Seconds from the end of an answer until the policy is told: a proxy knows at once."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.outstanding = [0] * len(around.engines)
        """Requests that were sent to each server and have not ended."""

    def choose(self, turn: Turn, ready: Sequence[int]) -> Choice:
        """Choose among the servers that health checks call `ready`, which are never none. Raises `Shed`."""
        return Choice((self.server(turn, ready),))

    def server(self, turn: Turn, ready: Sequence[int]) -> int:
        """Choose one server."""
        raise NotImplementedError

    def sent(self, turn: Turn, choice: Choice, server: int) -> None:  # noqa: ARG002 - for policies that remember
        """Note that `server` took the request."""
        self.outstanding[server] += 1

    def first_token(self, turn: Turn, choice: Choice, server: int) -> None:
        """Note that the answer has begun."""

    def ended(self, turn: Turn, choice: Choice, server: int, end: End) -> None:  # noqa: ARG002 - same
        """Note that the request ended."""
        self.outstanding[server] -= 1

    def scraped(self, server: int, metrics: Metrics) -> None:
        """Note what a server says of itself."""

    def missed(self, server: int) -> None:
        """Note that a server did not answer."""

    def least(self, among: Sequence[int]) -> int:
        """Return the server with the fewest requests, any of them where several have."""
        fewest = min(self.outstanding[n] for n in among)
        return self.around.rng.choice([n for n in among if self.outstanding[n] == fewest])
