"""How late news are is told by the clock of Redis, whatever ours says."""

from __future__ import annotations

import pytest

from services.epp.state.lag import Lag, Offset
from services.epp.state.wire import VERSION, Batch, Pick


def test_the_age_of_news_is_by_the_clock_of_redis():
    """Ours is a hundred seconds behind it; an answer was half-way when Redis wrote it."""
    offset = Offset()
    offset.hear(1100.001, 1000.0, 1000.002)
    assert offset.known
    assert offset.age(1100.0, 1000.051) == pytest.approx(0.051)
    assert offset.age(1200.0, 1000.0) == 0.0


def test_a_slow_answer_says_less_than_a_quick_one():
    """Nobody knows on which way the time went; a clock that was set is believed at once."""
    offset = Offset()
    offset.hear(1100.001, 1000.0, 1000.002)
    offset.hear(1101.09, 1001.0, 1001.1)
    assert offset.age(1101.0, 1001.1) == pytest.approx(0.1)
    offset.hear(2002.05, 1002.0, 1002.1)
    assert offset.age(2002.0, 1002.1) == pytest.approx(0.1)


def test_slow_answers_are_believed_when_no_others_come():
    """The clocks drift, and the network is what it is now."""
    offset = Offset()
    offset.hear(1100.001, 1000.0, 1000.002)
    for second in range(1001, 1100):
        offset.hear(second + 100.5 + 0.005, second, second + 0.01)
    assert offset.age(1200.5, 1100.0) == pytest.approx(0.0)
    assert offset.age(1200.0, 1100.0) == pytest.approx(0.5)


def test_a_guess_gives_way_to_any_answer():
    """The newest entry of a stream may be hours old."""
    offset = Offset()
    offset.guess(900.0, 1000.0)
    assert offset.known
    offset.hear(1100.25, 1000.0, 1000.5)
    assert offset.age(1100.0, 1000.5) == pytest.approx(0.5)


def test_what_is_visible_is_counted_from_the_pick():
    """It waited here, then for Redis, then there; a batch without picks says only how long it took to come."""
    seen: list[float] = []
    came: list[float] = []
    lag = Lag(published=came.append, visible=seen.append, applied=came.append)
    pick = Pick(1, 0, 0, 15, 0, 0, 0, 0, 0, b"")
    lag.heard(Batch(VERSION, "a", 1, whole=False, picks=(pick,), late_ms=5), 0.01)
    lag.heard(Batch(VERSION, "a", 2, whole=True), 0.5)

    assert seen == [pytest.approx(0.03)]
    assert came == [0.01, 0.5]
