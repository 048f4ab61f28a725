"""One run in virtual time: clients, a policy, and engines.

Servers are scraped as in production, ends are told as late as the policy would learn of them, and a server can die.
Clients whose server died ask again after a second; their time goes on counting.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.routing.fleet import Fleet
from bench.routing.policies.base import Choice, End, Policy, Shed, Surroundings
from bench.routing.turns import Turn
from services.epp.endpoints import Metrics
from tools.model_server.engine import Engine, Progress, Request

START = 1000.0
"""What the clock says at first: 0 means "never" to those who read it."""
SCRAPE_TAKES = 0.005
"""Seconds from a server's writing its metrics to their being read."""
MISSES = 3
"""Scrapes in a row that a server must miss before it counts as down, as in the picker's defaults."""
RETRY_AFTER = 1.0

Arrival = tuple[float, Turn]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request that was answered or refused. Times in seconds, lengths in tokens."""

    turn: Turn
    server: int
    """-1 when it was refused."""
    started: float
    """From the beginning of the run."""
    ttft: float = 0.0
    seconds: float = 0.0
    cached: int = 0
    retries: int = 0

    @property
    def shed(self) -> bool:
        """Whether it was refused."""
        return self.server < 0


@dataclass(slots=True)
class _Asked:
    turn: Turn
    started: float
    choice: Choice
    server: int
    sent: float
    retries: int
    first: float = 0.0
    cached: int = 0


class World:
    """One run."""

    def __init__(
        self,
        policy: Callable[[Surroundings], Policy],
        fleet: Fleet,
        arrivals: Sequence[Arrival],
        seed: int,
    ) -> None:
        """`arrivals` ascend in time."""
        self.now = START
        self._rng = random.Random(seed)
        self._profiles = fleet.profiles
        self._fleet = fleet
        self.engines = [Engine(profile, every_token=False) for profile in self._profiles]
        self._arrivals = arrivals
        first = [turn for _, turn in arrivals]
        self.policy = policy(Surroundings(lambda: self.now, random.Random(seed), self.engines, first))
        self._up = [True] * fleet.servers
        self._born = [1.0] * fleet.servers
        self._missed = [0] * fleet.servers
        self._asked: dict[str, _Asked] = {}
        self._outcomes: list[Outcome] = []
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = itertools.count()
        self._wake = [math.inf] * fleet.servers

    def run(self) -> list[Outcome]:
        """Return what became of every request, in the order of their ends."""
        arrivals, last = self._arrivals, self._arrivals[-1][0]
        for n in range(len(self.engines)):
            self._tell(n, self._metrics(n))
            self._at(self.now + self.policy.scrape_every * self._rng.random(), self._scrape, n)
        for at, turn in arrivals:
            self._at(START + at, self._ask, turn)
        if (outage := self._fleet.outage) is not None:
            self._at(START + last * outage.begins, self._die, outage.server)
            self._at(START + last * outage.ends, self._return, outage.server)
        left = sum(1 for _, first in arrivals for _ in first)
        while len(self._outcomes) < left:
            self.now, _, action, args = heapq.heappop(self._events)
            action(*args)
        return self._outcomes

    def _at(self, moment: float, action: Callable[..., None], *args: object) -> None:
        heapq.heappush(self._events, (moment, next(self._order), action, args))

    def _scrape(self, n: int) -> None:
        self._at(self.now + self.policy.scrape_every * self._rng.uniform(0.9, 1.1), self._scrape, n)
        if self._up[n]:
            self._at(self.now + SCRAPE_TAKES, self._tell, n, self._metrics(n))
            return
        self._missed[n] += 1
        self.policy.missed(n)

    def _tell(self, n: int, metrics: Metrics) -> None:
        self._missed[n] = 0
        self.policy.scraped(n, metrics)

    def _metrics(self, n: int) -> Metrics:
        engine = self.engines[n]
        return Metrics(
            waiting=engine.waiting,
            running=engine.running,
            kv_usage=engine.kv.usage,
            block_size=engine.profile.block_size,
            num_blocks=engine.profile.kv_blocks,
            active_adapters=frozenset(engine.running_adapters()),
            waiting_adapters=frozenset(engine.waiting_adapters()),
            max_adapters=engine.profile.adapter_slots,
            started_at=self._born[n],
            prompt_tokens_total=engine.counters.prompt_tokens,
            scraped_at=self.now,
        )

    def _ask(self, turn: Turn, started: float | None = None, retries: int = 0) -> None:
        started = self.now if started is None else started
        try:
            choice, n = self._choose(turn)
        except Shed:
            self._refused(turn, started, retries)
            return
        if n < 0:
            self._at(self.now + RETRY_AFTER, self._ask, turn, started, retries + 1)
            return
        self.policy.sent(turn, choice, n)
        name = str(next(self._order))
        self._asked[name] = _Asked(turn, started, choice, n, self.now, retries)
        self._drive(n)
        self.engines[n].submit(
            Request(name, turn.prompt_tokens, turn.output_tokens, turn.blocks, turn.adapter), self.now
        )
        self._plan(n)

    def _choose(self, turn: Turn) -> tuple[Choice, int]:
        """Return the choice and the server that takes the request; -1 when nobody does.

        A server that is down refuses the connection at once, and the next one is tried, as a proxy does.
        """
        ready = [n for n in range(len(self.engines)) if self._missed[n] < MISSES]
        choice = Choice(())
        while ready:
            choice = self.policy.choose(turn, ready)
            taken = next((n for n in choice.servers if self._up[n]), -1)
            if taken >= 0:
                return choice, taken
            ready = [n for n in ready if n not in choice.servers]
        return choice, -1

    def _refused(self, turn: Turn, started: float, retries: int) -> None:
        """End the session: what would have followed is not asked."""
        self._outcomes += [Outcome(one, -1, started - START, retries=retries) for one in turn]

    def _drive(self, n: int) -> None:
        for progress in self.engines[n].advance(self.now):
            if progress.first or progress.finished:
                self._progress(progress)

    def _plan(self, n: int) -> None:
        due = self.engines[n].next_change
        if due < self._wake[n] - 1e-12 or self._wake[n] <= self.now:
            self._wake[n] = due
            if due < math.inf:
                self._at(due, self._woken, n, due)

    def _woken(self, n: int, due: float) -> None:
        if self._wake[n] != due:
            return
        self._drive(n)
        self._wake[n] = math.inf
        self._plan(n)

    def _progress(self, p: Progress) -> None:
        asked = self._asked[p.id]
        if p.first:
            asked.first, asked.cached = p.at, p.cached_tokens
            self.policy.first_token(asked.turn, asked.choice, asked.server)
        if not p.finished:
            return
        del self._asked[p.id]
        started, turn = asked.started, asked.turn
        self._outcomes.append(
            Outcome(
                turn,
                asked.server,
                started - START,
                asked.first - started,
                p.at - started,
                asked.cached,
                asked.retries,
            )
        )
        end = End(p.at - asked.sent, asked.first - asked.sent, turn.output_tokens)
        self._end(asked, end, max(p.at, self.now))
        if turn.then is not None:
            self._at(max(p.at, self.now) + turn.then.pause, self._ask, turn.then)

    def _end(self, asked: _Asked, end: End, when: float) -> None:
        self._at(
            when + self.policy.knows_end_after,
            self.policy.ended,
            asked.turn,
            asked.choice,
            asked.server,
            end,
        )

    def _die(self, n: int) -> None:
        """Lose everything; the clients see their connections break."""
        self._drive(n)
        self._up[n] = False
        self.engines[n] = Engine(self._profiles[n], every_token=False)
        self._wake[n] = math.inf
        for name, asked in [(name, one) for name, one in self._asked.items() if one.server == n]:
            del self._asked[name]
            self._end(asked, End(self.now - asked.sent, 0.0, 0, failed=True), self.now)
            self._at(self.now + RETRY_AFTER, self._ask, asked.turn, asked.started, asked.retries + 1)

    def _return(self, n: int) -> None:
        self._up[n] = True
        self._born[n] += 1.0
