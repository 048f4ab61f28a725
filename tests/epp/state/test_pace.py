"""What is asked often is asked at a steady pace; what is asked seldom is asked at once."""

from __future__ import annotations

from services.epp.state.pace import BURST, Pace


def times(wanted: list[float]) -> list[float]:
    """Return when each goes that wants to go at these moments."""
    pace = Pace(1.0)
    gone: list[float] = []
    for moment in wanted:
        gone.append(max(moment, pace.due, *gone[-1:]))
        pace.went(gone[-1])
    return gone


def test_after_a_rest_some_go_at_once_and_then_one_each_interval():
    """However many want to."""
    assert BURST == 2
    assert times([0.0] * 6) == [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]
    assert times([0.0, 0.0, 0.0, 10.0, 10.0, 10.0, 10.0]) == [0.0, 0.0, 0.0, 10.0, 10.0, 10.0, 11.0]


def test_in_the_long_run_none_waits_that_comes_no_more_often():
    """Also when some come close together."""
    wanted = [2.0 * number + 0.9 * (number % 2) for number in range(100)]
    assert times(wanted) == wanted


def test_what_went_before_its_time_makes_nobody_wait_longer():
    """A read that waited comes when there is news, whatever the pace."""
    pace = Pace(1.0)
    for _ in range(9):
        pace.went(0.0)
    assert pace.due == 1.0


def test_who_hurries_does_not_wait():
    """There is more to be read."""
    pace = Pace(1.0)
    for _ in range(9):
        pace.went(0.0)
    pace.hurry()
    assert pace.due < 0.0
