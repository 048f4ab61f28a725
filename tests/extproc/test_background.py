"""Background work belongs to a block."""

from __future__ import annotations

import asyncio

import pytest

from services.extproc.background import background


async def test_the_work_ends_with_the_block():
    """Cancelled, and waited for."""
    steps = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("ended")

    async with background(work()) as task:
        await asyncio.sleep(0)
        assert not task.done()
    assert steps == ["ended"]


async def test_a_failure_is_raised_when_the_block_ends():
    """It is not lost."""

    async def work():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with background(work()):
            await asyncio.sleep(0)


async def test_a_failure_can_be_heard_at_once():
    """And is then not raised again."""
    heard: list[BaseException] = []

    async def work():
        raise ValueError("broken")

    async with background(work(), on_failure=heard.append):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [str(error) for error in heard] == ["broken"]


async def test_work_that_is_done_leaves_no_trace():
    """A normal end is no failure."""
    heard: list[BaseException] = []

    async def work():
        return

    async with background(work(), on_failure=heard.append) as task:
        await task
    assert heard == []


async def test_cancelling_the_block_is_not_swallowed():
    """The caller asked for it."""

    async def block():
        async with background(asyncio.Event().wait()):  # type: ignore[arg-type]  # it never returns
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await block()
