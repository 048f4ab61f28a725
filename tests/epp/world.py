"""A pool of model servers in virtual time: the real director, a clock that jumps, servers that take as long as told."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable

from services.epp.director import Ask, Director, Reservation
from services.epp.endpoints import Endpoint, Metrics
from services.epp.pool import Pool, PoolLimits
from services.epp.profiles import default_profile
from services.epp.records import Observer, Release, Silent
from services.epp.scheduling.interfaces import Detector, Scheduler
from services.epp.scheduling.saturation import Utilization
from services.epp.state import Alone, SharedState
from services.openai.digest import Digest, hash_prompt


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def text(length: int, seed: int) -> bytes:
    """Words that differ between seeds."""
    return " ".join(f"w{(seed * 7919 + i * 104729) % 99991}" for i in range(length // 3 + 1))[
        :length
    ].encode()


def digest(*parts: bytes, model: str = "base", max_tokens: int = 0) -> Digest:
    prompt = b"".join(parts)
    blocks = hash_prompt([prompt], model=model)
    return Digest(model, prompt_bytes=len(prompt), max_tokens=max_tokens, blocks=blocks)


def address(number: int) -> str:
    return f"10.0.0.{number + 1}:8000"


def pool_of(count: int, clock: Clock, *, name: str = "llama", limits: PoolLimits | None = None) -> Pool:
    """Make a pool of `count` idle servers that have been scraped once."""
    pool = Pool(name, clock=clock, limits=limits)
    pool.set_members(Endpoint(address(number)) for number in range(count))
    for number in range(count):
        pool.observe(address(number), Metrics(scraped_at=clock()))
    return pool


def director_of(
    *pools: Pool,
    clock: Clock,
    seed: int = 1,
    scheduler: Scheduler | None = None,
    default_pool: str = "",
    objectives: dict[str, int] | None = None,
    observer: Observer | None = None,
    detector: Detector | None = None,
    sheds: bool = True,
    state: SharedState | None = None,
    instance: str = "",
) -> Director:
    return Director(
        {pool.name: pool for pool in pools},
        scheduler or default_profile(),
        detector=detector or Utilization(),
        objectives=objectives or {},
        clock=clock,
        rng=random.Random(seed),
        observer=observer or Silent(),
        state=state or Alone(),
        instance=instance,
        default_pool=default_pool,
        sheds=sheds,
    )


def closed_loop(
    director: Director,
    pool: Pool,
    clock: Clock,
    asks: Iterable[Ask],
    *,
    concurrency: int,
    seconds: Callable[[], float],
    scrape_every: float = 0.2,
    end_is_known_after: float = 0.02,
) -> list[str]:
    """Run `asks` with a fixed concurrency; return which address served each.

    The servers report what they really run at every scrape, and the end of a request is known a little late, as
    from an access log.
    """
    served: list[str] = []
    running: Counter[str] = Counter()
    events: list[tuple[float, int, Callable[[], None]]] = []
    pending, order = iter(asks), iter(range(10**9))
    start = clock()

    def at(moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(events, (moment, next(order), action))

    def begin() -> None:
        ask = next(pending, None)
        if ask is None:
            return
        reservation = director.pick(ask)
        first = reservation.decision.servers[0].address
        served.append(first)
        running[first] += 1
        at(clock() + seconds(), lambda: finish(reservation, first))

    def finish(reservation: Reservation, first: str) -> None:
        running[first] -= 1
        at(clock() + end_is_known_after, lambda: _released(director, reservation))
        begin()

    def scrape() -> None:
        for server in pool.snapshot.servers:
            pool.observe(server.address, Metrics(running=running[server.address], scraped_at=clock()))
        if running.total():
            at(clock() + scrape_every, scrape)

    for _ in range(concurrency):
        begin()
    at(start + scrape_every / 3, scrape)
    while events:
        clock.now, _, action = heapq.heappop(events)
        action()
    return served


def _released(director: Director, reservation: Reservation) -> None:
    director.release(reservation.pool.name, reservation.id, Release.ACCESS_LOG)
