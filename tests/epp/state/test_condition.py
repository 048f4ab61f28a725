"""Redis is reached when all that try reach it."""

from __future__ import annotations

from services.epp.state.condition import Condition
from tests.epp.world import Clock


def test_all_parts_have_to_work_again():
    """Each change is told once, and how long it was not so is added up."""
    clock = Clock()
    told: list[bool] = []
    condition = Condition(clock=clock, report=told.append)
    condition.worked("a")
    condition.worked("b")
    condition.failed("a", OSError("gone"))
    condition.failed("b", OSError("gone"))
    clock.now += 3
    condition.worked("a")
    assert told == [True, False]
    condition.worked("b")
    assert told == [True, False, True]
    assert condition.up
    assert condition.degraded_seconds == 3


def test_what_nobody_tries_any_more_is_not_waited_for():
    """A pool that is taken out of the configuration while it fails."""
    clock = Clock()
    told: list[bool] = []
    condition = Condition(clock=clock, report=told.append)
    condition.worked("a")
    condition.failed("gone", OSError("gone"))
    condition.forget("gone")
    assert condition.up
    assert told == [True, False, True]


def test_nothing_that_works_is_not_up():
    """The last pool left, and nothing is known of Redis."""
    condition = Condition(clock=Clock(), report=lambda _: None)
    condition.failed("only", OSError("gone"))
    condition.forget("only")
    assert not condition.up
