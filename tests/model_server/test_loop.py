"""The engine on a real event loop: answers arrive, clients that leave cost nothing, and nothing polls."""

from __future__ import annotations

import asyncio

import pytest

from tools.model_server.constants import DEMO
from tools.model_server.engine import DoesNotFit, Engine, Request
from tools.model_server.loop import EngineLoop


def loop():
    return EngineLoop(Engine(DEMO))


def ask(request_id, output=8):
    return Request(request_id, 100, output)


def tokens(news):
    return sum(progress.tokens for _, progress in news)


async def test_an_answer_that_is_not_streamed_comes_at_once():
    """Whoever waits for the end is woken once, by the end."""
    subject = loop()
    with subject.ticket([ask("a")], stream=False) as ticket:
        news = await ticket.news()
        assert await ticket.news() == []
    assert tokens(news) == 8
    assert news[-1][1].finished


async def test_a_stream_gets_its_tokens_as_they_come():
    """A thousand tokens take a quarter of a second at demo speed, in many pieces."""
    subject = loop()
    pieces = []
    with subject.ticket([ask("a", output=1_000)], stream=True) as ticket:
        while news := await ticket.news():
            pieces.append(tokens(news))
    assert sum(pieces) == 1_000
    assert len(pieces) > 20


async def test_choices_are_told_apart():
    """Each piece of progress comes with the index of its sequence."""
    subject = loop()
    with subject.ticket([ask("a", 3), ask("b", 5)], stream=True) as ticket:
        news = await ticket.done()
    assert [tokens([n for n in news if n[0] == index]) for index in (0, 1)] == [3, 5]


async def test_leaving_the_block_cancels_in_the_engine():
    """A client that goes away frees batch and blocks."""
    subject = loop()
    with subject.ticket([ask("a", 100_000)], stream=True) as ticket:
        await ticket.news()
        assert subject.running == 1
    assert (subject.running, subject.engine.kv.usage, subject.aborted) == (0, 0, 1)


async def test_a_cancelled_task_cancels_in_the_engine():
    """That is how a disconnected client shows."""
    subject = loop()

    async def answer():
        with subject.ticket([ask("a", 100_000)], stream=False) as ticket:
            await ticket.done()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(answer(), 0.01)
    assert subject.running == 0


async def test_when_one_choice_does_not_fit_none_runs():
    """Entering the block raises, and what was submitted before is taken back."""
    subject = loop()
    with (
        pytest.raises(DoesNotFit),
        subject.ticket([ask("a"), ask("b", 1 << 30)], stream=False),
    ):
        pass
    assert (subject.running, subject.engine.waiting) == (0, 0)


async def test_a_held_answer_counts_as_running_until_it_is_sent():
    """Paced by its request, not by the engine."""
    subject = loop()
    with subject.ticket([ask("a")], stream=True, held=True) as ticket:
        await ticket.done()
        assert (subject.engine.running, subject.running) == (0, 1)
    assert subject.running == 0


async def test_an_idle_engine_has_no_timer():
    """Nothing polls: the loop has nothing scheduled once the answers are out."""
    subject = loop()
    with subject.ticket([ask("a")], stream=True) as ticket:
        await ticket.done()
    assert subject._timer is None
