"""A background task belongs to a block: it starts with it, ends with it, and its failure is not lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any


@contextlib.asynccontextmanager
async def background(
    work: Coroutine[Any, Any, None], *, on_failure: Callable[[BaseException], None] | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` while the block runs and cancel it after.

    A failure of `work` is given to `on_failure` at once; without it, it is raised when the block ends.
    """
    task = asyncio.create_task(work)  # noqa: TID251 - the one place where tasks start
    if on_failure is not None:
        report = on_failure

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                report(error)

        task.add_done_callback(done)
    try:
        yield task
    finally:
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():  # it is the block itself that is being cancelled
                raise
        except Exception:
            if on_failure is None:
                raise
