"""What requests are like of late, and whether they come back."""

from __future__ import annotations

import pytest

from services.epp.cost.lesson import Lesson
from services.epp.cost.typical import MOST_TURNS, Typical


def lesson(context: int, alone: int) -> Lesson:
    return Lesson(
        completed=True,
        broken=False,
        ahead=0.0,
        stalls=0.0,
        batch=1.0,
        reads=0.0,
        prompt_tokens=100,
        context_tokens=context,
        max_tokens=0,
        seconds=1.0,
        first_token=None,
        output_tokens=10,
        again_tokens=alone,
    )


@pytest.mark.parametrize(
    ("alone", "turns"),
    [
        (0, 0.0),  # nothing was seen before, or everybody has it: no conversations
        (500, 1.0),  # half of what is asked was asked before: each comes back once
        (900, 9.0),
        (1000, MOST_TURNS),
    ],
)
def test_how_often_conversations_come_back_shows_in_what_one_server_alone_has(alone, turns):
    """One that comes back r times sends r / (1 + r) of all its tokens again."""
    typical = Typical()
    for _ in range(1000):
        typical.learn(lesson(1000, alone))

    assert typical.turns == pytest.approx(turns, rel=0.01)


def test_a_prompt_without_tokens_says_nothing_of_that():
    """There is nothing to have."""
    typical = Typical(again=0.5)
    typical.learn(lesson(0, 0))

    assert typical.again == 0.5
