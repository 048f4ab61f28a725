from __future__ import annotations

import asyncio
import random

import pytest

from services.safety.providers.guard import Breaker, Failure, Guard
from services.safety.verdict import State


class Clock:
    """The event loop's clock, and what is added by sleeping."""

    def __init__(self):
        self.slept = []

    def __call__(self):
        return asyncio.get_running_loop().time() + sum(self.slept)

    async def sleep(self, seconds):
        self.slept.append(seconds)


class Judge:
    def __init__(self, *outcomes):
        self.outcomes, self.calls = list(outcomes), 0

    async def __call__(self):
        self.calls += 1
        outcome = self.outcomes.pop(0) if self.outcomes else "fine"
        if isinstance(outcome, Failure):
            raise outcome
        return outcome


def guard(*, attempts=2, failures=3):
    clock = Clock()
    made = Guard("t", Breaker(failures, 10.0), attempts, clock=clock, rng=random.Random(1), sleep=clock.sleep)
    return made, clock


def broken():
    return Failure(State.ERROR, "reset", again=True)


async def state(made, judge, clock, seconds=5.0):
    try:
        await made.run(judge, clock() + seconds)
    except Failure as failure:
        return failure.state
    return State.JUDGED


async def test_it_tries_again_after_a_growing_pause():
    """50 ms give or take half, then twice that."""
    made, clock = guard(attempts=3)
    judge = Judge(broken(), broken())
    assert await made.run(judge, clock() + 5.0) == "fine"
    assert judge.calls == 3
    assert 0.025 <= clock.slept[0] <= 0.075
    assert 0.05 <= clock.slept[1] <= 0.15


async def test_there_is_no_second_try_that_would_be_late():
    """The pause must fit into the deadline."""
    made, clock = guard(attempts=5)
    judge = Judge(broken(), broken())
    assert await state(made, judge, clock, seconds=0.02) is State.ERROR
    assert (judge.calls, clock.slept) == (1, [])


@pytest.mark.parametrize("failed", [State.THROTTLED, State.LIMIT, State.ERROR])
async def test_what_a_second_try_cannot_help_gets_none(failed):
    """429, 413 and a wrong credential."""
    made, clock = guard()
    judge = Judge(Failure(failed, "no"))
    assert await state(made, judge, clock) is failed
    assert judge.calls == 1


async def test_a_judge_that_wants_to_be_left_alone_is():
    """For as long as Retry-After says, and that is no failure of the breaker."""
    made, clock = guard(failures=1)
    judge = Judge(Failure(State.THROTTLED, "429", retry_after=7.0))
    assert await state(made, judge, clock) is State.THROTTLED
    assert await state(made, judge, clock) is State.THROTTLED
    assert judge.calls == 1
    await clock.sleep(7.1)
    assert await state(made, judge, clock) is State.JUDGED


async def test_a_text_that_is_too_long_does_not_open_the_breaker():
    """It is the text's fault, and the next may be short."""
    made, clock = guard(failures=1)
    assert await state(made, Judge(Failure(State.LIMIT, "413")), clock) is State.LIMIT
    assert await state(made, Judge(), clock) is State.JUDGED


async def test_while_the_breaker_is_open_one_call_tries():
    """After the pause; its outcome decides for the rest."""
    made, clock = guard(attempts=1, failures=2)
    judge = Judge(broken(), broken(), broken())
    for _ in range(5):
        assert await state(made, judge, clock) is State.ERROR
    assert judge.calls == 2
    await clock.sleep(10.1)
    for _ in range(3):
        assert await state(made, judge, clock) is State.ERROR
    assert judge.calls == 3
    await clock.sleep(10.1)
    assert [await state(made, judge, clock) for _ in range(3)] == [State.JUDGED] * 3


async def test_a_slow_judge_is_a_timeout_of_its_own():
    """Just before the caller would give up, so that the breaker hears of it."""
    made, clock = guard(failures=1)

    async def never():
        await asyncio.Event().wait()

    async with asyncio.timeout(30):
        assert await state(made, never, clock, seconds=0.02) is State.TIMEOUT
    assert await state(made, Judge(), clock) is State.ERROR
