from __future__ import annotations

import pytest

from services.safety.providers.cache import VerdictCache
from services.safety.providers.pieces import Piece
from services.safety.providers.shape import CLEAN, blocked, unjudged
from services.safety.verdict import Direction, State
from tests.safety.providers.fakes import TEXT
from tests.safety.providers.server import fake_of
from tests.safety.providers.test_contract import judge, provider, text


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def piece(value, role="user"):
    return Piece(value, role, ())


def cache(entries=2, seconds=10.0):
    clock = Clock()
    return VerdictCache(entries, seconds, key=b"k", clock=clock), clock


def test_a_verdict_holds_for_its_time_text_role_and_direction():
    """No longer, and for nothing else."""
    known, clock = cache()
    known.put(piece("a"), Direction.PROMPT, blocked("x"))
    assert known.get(piece("a"), Direction.PROMPT) == blocked("x")
    assert known.get(piece("a", "tool"), Direction.PROMPT) is None
    assert known.get(piece("a"), Direction.RESPONSE) is None
    assert known.get(piece("b"), Direction.PROMPT) is None
    clock.now = 10.0
    assert known.get(piece("a"), Direction.PROMPT) is None


@pytest.mark.parametrize("state", [state for state in State if state is not State.JUDGED])
def test_a_failure_is_not_remembered(state):
    """The next request asks again."""
    known, _ = cache()
    known.put(piece("a"), Direction.PROMPT, unjudged(state))
    assert known.get(piece("a"), Direction.PROMPT) is None


def test_the_least_used_goes_first():
    """The number of entries is bounded."""
    known, _ = cache(entries=2)
    for value in "ab":
        known.put(piece(value), Direction.PROMPT, CLEAN)
    known.get(piece("a"), Direction.PROMPT)
    known.put(piece("c"), Direction.PROMPT, CLEAN)
    assert [value for value in "abc" if known.get(piece(value), Direction.PROMPT)] == ["a", "c"]


async def test_a_growing_conversation_is_judged_once_per_message():
    """Three turns of a chat, three questions, where the service judges texts alone."""
    fake = fake_of("azure-content-safety", "allow")
    async with provider(fake, auth={"env": "PATH"}) as made:
        turns = [text(f"{TEXT} {turn}", at=turn) for turn in range(3)]
        for turn in range(3):
            await judge(made, *turns[: turn + 1])
    assert [call["text"] for call in fake.asked] == [one.value for one in turns]


async def test_a_judge_of_whole_conversations_is_asked_each_time():
    """Its verdict on one message may come from another."""
    fake = fake_of("litellm", "block", "allow")
    async with provider(fake, auth={"env": "PATH"}) as made:
        await judge(made)
        verdict = await judge(made)
    assert len(fake.asked) == 2
    assert verdict.action.value == "allow"
