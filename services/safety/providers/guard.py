"""What stands between us and a judge that fails: a deadline, retries, and a breaker that stops asking."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from services.safety.verdict import State

T = TypeVar("T")

_BACKOFF = 0.05  # seconds before the second try, doubled for each further one; half to one and a half of it
_MARGIN = 0.005  # seconds before the caller's deadline, so that this judge says TIMEOUT itself and its breaker counts
_LONGEST_PAUSE = 60.0  # seconds that a Retry-After is believed


class Failure(Exception):
    """A judge did not judge."""

    def __init__(
        self, state: State, detail: str, *, again: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(detail)
        self.state = state
        self.again = again
        """Whether another try may help."""
        self.retry_after = retry_after
        """Seconds that the judge wants to be left alone."""


class Breaker:
    """Opens after a number of failures in a row; after a pause lets one call through, whose outcome decides."""

    def __init__(self, failures: int, pause: float) -> None:
        self._limit = failures
        self._pause = pause
        self._failures = 0
        self._closed_again = 0.0  # when the next call may try

    def allows(self, now: float) -> bool:
        """Whether a call may go out. While open, a call that may is the only one of its pause."""
        if self._failures < self._limit:
            return True
        if now < self._closed_again:
            return False
        self._closed_again = now + self._pause
        return True

    def succeeded(self) -> bool:
        """Note a success; return whether the breaker was open."""
        was_open = self._failures >= self._limit
        self._failures = 0
        return was_open

    def failed(self, now: float) -> bool:
        """Note a failure; return whether it opens the breaker."""
        self._failures += 1
        if self._failures >= self._limit:
            self._closed_again = now + self._pause
        return self._failures == self._limit


class Guard:
    """Runs calls to one judge."""

    def __init__(
        self,
        name: str,
        breaker: Breaker,
        attempts: int,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._breaker = breaker
        self._attempts = attempts
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._quiet_until = 0.0
        self._log = structlog.get_logger("safety.providers").bind(type=name)

    async def run(self, call: Callable[[], Awaitable[T]], deadline: float) -> T:
        """Return what `call` returns, trying again where that may help; raise `Failure` otherwise."""
        for attempt in range(1, self._attempts + 1):
            self._admit()
            try:
                result = await self._once(call, deadline)
            except Failure as failure:
                self._note(failure)
                pause = _BACKOFF * 2 ** (attempt - 1) * self._rng.uniform(0.5, 1.5)
                late = self._clock() + pause >= deadline - _MARGIN
                if not failure.again or attempt == self._attempts or late:
                    raise
            else:
                if self._breaker.succeeded():
                    self._log.info("judge answers again")
                return result
            await self._sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _admit(self) -> None:
        if self._clock() < self._quiet_until:
            raise Failure(State.THROTTLED, "asked to wait")
        if not self._breaker.allows(self._clock()):
            raise Failure(State.ERROR, "breaker is open")

    async def _once(self, call: Callable[[], Awaitable[T]], deadline: float) -> T:
        try:
            async with asyncio.timeout_at(deadline - _MARGIN):
                return await call()
        except TimeoutError as error:
            raise Failure(State.TIMEOUT, "no answer in time") from error

    def _note(self, failure: Failure) -> None:
        self._log.debug("judge failed", state=failure.state.value, detail=str(failure))
        if failure.state is State.THROTTLED:
            pause = min(failure.retry_after or 0.0, _LONGEST_PAUSE)
            self._quiet_until = max(self._quiet_until, self._clock() + pause)
        elif failure.state is State.LIMIT:
            return  # the text's fault
        elif self._breaker.failed(self._clock()):
            self._log.warning(
                "judge is not asked for a while", state=failure.state.value, detail=str(failure)
            )
